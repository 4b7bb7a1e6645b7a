// SPDX-License-Identifier: MIT
#include "connector.hpp"

namespace ramferry::migration {

Connector::~Connector() {
  if (thread_.joinable()) thread_.join();
}

Result<Link> Connector::connect(std::string uri, SessionId session, Deadline deadline, StopSwitch& stop) {
  thread_ = std::thread([this, uri, session, deadline] {
    auto link = transports_.connect(uri, session, deadline);
    const std::lock_guard lock(mutex_);
    if (!given_up_) link_ = std::move(link);
    changed_.notify_all();
  });
  stop.on_cancel([this] {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
    changed_.notify_all();
  });
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return link_ || given_up_; });
  }
  stop.on_cancel({});
  if (stop.cancelled()) {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
    link_.reset();
    return fail(errc::cancelled, "connecting to " + uri);
  }
  thread_.join();
  return std::move(*link_);
}

}  // namespace ramferry::migration
