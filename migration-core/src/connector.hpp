// SPDX-License-Identifier: MIT
// Connects on a thread of its own, so that a cancel need not wait for the connect timeout.
#pragma once

#include "stop_switch.hpp"

#include <ramferry/transport.hpp>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace ramferry::migration {

/// Migration thread. The destructor waits for an attempt that was given up: at most the connect timeout.
class Connector {
 public:
  explicit Connector(const TransportCatalog& transports) : transports_(transports) {}
  ~Connector();
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;

  /// errc::cancelled as soon as `stop` is cancelled; a link that comes later is closed. Once.
  Result<Link> connect(std::string uri, SessionId session, Deadline deadline, StopSwitch& stop);

 private:
  const TransportCatalog& transports_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Result<Link>> link_;
  bool given_up_ = false;
  std::thread thread_;
};

}  // namespace ramferry::migration
