// SPDX-License-Identifier: MIT
#include "verbs_async.hpp"

#include <fcntl.h>

#include <cerrno>
#include <utility>

namespace ramferry::rdma {

void AsyncEvents::add(ibv_context* context, const ibv_cq* queue, const void* owner, Sink sink) {
  const std::lock_guard lock(mutex_);
  listeners_[owner] = Listener{context, queue, std::move(sink)};
}

void AsyncEvents::remove(const void* owner) noexcept {
  const std::lock_guard lock(mutex_);
  listeners_.erase(owner);
}

void AsyncEvents::drain(ibv_context* context) {
  ibv_async_event event{};
  while (ibv_get_async_event(context, &event) == 0) {
    const ibv_event_type type = event.event_type;
    const ibv_cq* const queue = type == IBV_EVENT_CQ_ERR ? event.element.cq : nullptr;
    ibv_ack_async_event(&event);
    // What happens to a queue pair shows in its completions. Those of a completion queue that failed come no
    // more; the device concerns everybody.
    if (type != IBV_EVENT_DEVICE_FATAL && type != IBV_EVENT_CQ_ERR) continue;
    const std::lock_guard lock(mutex_);
    for (auto& [owner, listener] : listeners_) {
      if (listener.context == context && (queue == nullptr || listener.queue == queue))
        listener.sink({FabricErrc::device_failed, ibv_event_type_str(type)});
    }
  }
}

Result<> set_nonblocking(int fd, const std::string& doing) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return fail_errno(errno, doing);
  return {};
}

}  // namespace ramferry::rdma
