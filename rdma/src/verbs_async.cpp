// SPDX-License-Identifier: MIT
#include "verbs_async.hpp"

#include <fcntl.h>

#include <cerrno>
#include <utility>

namespace ramferry::rdma {
void AsyncEvents::add(ibv_context* context, const void* owner, Sink sink) {
  const std::lock_guard lock(mutex_);
  listeners_[owner] = Listener{context, std::move(sink)};
}

void AsyncEvents::remove(ibv_context* /*context*/, const void* owner) noexcept {
  const std::lock_guard lock(mutex_);
  listeners_.erase(owner);
}

void AsyncEvents::drain(ibv_context* context) {
  ibv_async_event event{};
  while (ibv_get_async_event(context, &event) == 0) {
    const ibv_event_type type = event.event_type;
    ibv_ack_async_event(&event);
    // What happens to one queue pair or completion queue shows in its completions; the device concerns
    // everybody.
    if (type != IBV_EVENT_DEVICE_FATAL) continue;
    const std::lock_guard lock(mutex_);
    for (auto& [owner, listener] : listeners_) {
      if (listener.context == context) listener.sink({FabricErrc::device_failed, ibv_event_type_str(type)});
    }
  }
}

Result<> set_nonblocking(int fd, const std::string& doing) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return fail_errno(errno, doing);
  return {};
}

}  // namespace ramferry::rdma
