// SPDX-License-Identifier: MIT
// Frames that wait for a lane's sending thread: bounded, so that the one who places feels a slow lane.
#pragma once

#include "lane_writer.hpp"

#include <ramferry/deadline.hpp>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>

namespace ramferry::tcp {

class LaneQueue {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{8} << 20;
  static constexpr std::size_t kMostFrames = 256;

  /// Waits for room. False once closed: the frame is dropped.
  bool push(OutFrame frame);
  /// The next frame, which counts as queued until the following pop(). Waits; none once closed.
  std::optional<OutFrame> pop();
  /// Waits until every frame pushed so far was written; false if the deadline passed or the queue was closed
  /// first.
  bool drain(Deadline deadline);
  /// Drops what waits and ends all waiting, now and later.
  void close();

 private:
  bool drained() const noexcept { return frames_.empty() && !writing_; }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<OutFrame> frames_;
  std::size_t bytes_ = 0;
  bool writing_ = false;
  bool closed_ = false;
};

}  // namespace ramferry::tcp
