// SPDX-License-Identifier: MIT
// librdmacm opens a device once per process, so all sessions on it share one queue of asynchronous events.
// This hands each event to the session it concerns, whoever happened to read it.
#pragma once

#include "fabric.hpp"

#include <infiniband/verbs.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>

namespace ramferry::rdma {

/// Any thread.
class AsyncEvents {
 public:
  using Sink = std::function<void(LinkEvent)>;

  /// `sink` hears of what ends the work with `context`, or with `queue` on it, until remove(owner) has
  /// returned.
  void add(ibv_context* context, const ibv_cq* queue, const void* owner, Sink sink);
  void remove(const void* owner) noexcept;
  /// Reads what is there; the descriptor is non-blocking.
  void drain(ibv_context* context);

 private:
  struct Listener {
    ibv_context* context;
    const ibv_cq* queue;
    Sink sink;
  };
  std::mutex mutex_;
  std::map<const void*, Listener> listeners_;
};

/// Makes a descriptor non-blocking; failing that, readers would hang, so it is an error.
Result<> set_nonblocking(int fd, const std::string& doing);

}  // namespace ramferry::rdma
