// SPDX-License-Identifier: MIT
// What migration asks of the VMM around it.
#pragma once

#include <ramferry/error.hpp>

#include <cstdint>

namespace ramferry::migration {

/// Called on the migration thread. An embedder implements it.
class GuestControl {
 public:
  virtual ~GuestControl() = default;
  /// Stops virtual CPUs and drains in-flight I/O; when it returns nobody writes guest memory. If it fails the
  /// migration fails and resume() is called.
  virtual Result<> pause() = 0;
  /// Lets the guest run (again). Undoes pause().
  virtual Result<> resume() = 0;
  virtual bool running() const noexcept = 0;
  /// A suspended guest is woken before it is paused for switchover.
  virtual void wake_up() {}
  /// Slow the guest's CPUs down by this share, 0-99 %; 0 lets them run freely.
  virtual void throttle(std::uint8_t /*percent*/) {}
};

}  // namespace ramferry::migration
