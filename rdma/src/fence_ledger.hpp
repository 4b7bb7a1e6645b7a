// SPDX-License-Identifier: MIT
// Which epochs are complete at the end that is placed into: the fence on the control connection, one on each
// lane that it names, and all that came by message, with counts that agree. Pure bookkeeping, one thread.
#pragma once

#include "message.hpp"

#include <cstdint>
#include <deque>

namespace ramferry::rdma {

class FenceLedger {
 public:
  /// Epochs that may be under way at once.
  explicit FenceLedger(std::uint32_t lanes, std::uint32_t most_open) noexcept
      : lanes_(lanes), most_open_(most_open) {}

  /// errc::protocol_mismatch for epochs out of order, repeated or too far ahead, lanes that are not ours, and
  /// counts that differ.
  Result<> on_control(const FenceMessage& fence);
  Result<> on_lane(std::uint32_t lane, const LaneFence& fence);
  /// What came by message before the control fence of `epoch` is applied.
  void on_applied(Epoch epoch) noexcept;

  struct Completed {
    Epoch newest = 0;         ///< 0: none since the last call
    std::uint64_t bytes = 0;  ///< written in them
  };
  /// Epochs complete in order.
  Result<Completed> take_completed();
  Epoch completed() const noexcept { return completed_; }

 private:
  struct Open {
    bool fenced = false, applied = false;
    FenceMessage wanted;
    std::uint64_t arrived = 0, writes = 0, bytes = 0;
  };
  Result<Open*> open(Epoch epoch);

  const std::uint32_t lanes_, most_open_;
  Epoch completed_ = 0, fenced_ = 0;
  std::deque<Open> open_;  // of completed_ + 1 and on
};

}  // namespace ramferry::rdma
