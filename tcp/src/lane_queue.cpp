// SPDX-License-Identifier: MIT
#include "lane_queue.hpp"

#include "waiting.hpp"

#include <utility>

namespace ramferry::tcp {

bool LaneQueue::push(OutFrame frame) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return closed_ || (bytes_ < kMostBytes && frames_.size() < kMostFrames); });
  if (closed_) return false;
  bytes_ += frame.wire_bytes();
  frames_.push_back(std::move(frame));
  changed_.notify_all();
  return true;
}

std::optional<OutFrame> LaneQueue::pop() {
  std::unique_lock lock(mutex_);
  if (std::exchange(writing_, false) && frames_.empty()) changed_.notify_all();
  changed_.wait(lock, [&] { return closed_ || !frames_.empty(); });
  if (closed_) return std::nullopt;
  OutFrame frame = std::move(frames_.front());
  frames_.pop_front();
  bytes_ -= frame.wire_bytes();
  writing_ = true;
  changed_.notify_all();
  return frame;
}

bool LaneQueue::drain(Deadline deadline) {
  std::unique_lock lock(mutex_);
  return wait_until(changed_, lock, deadline, [&] { return closed_ || drained(); }) && !closed_;
}

void LaneQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  frames_.clear();
  bytes_ = 0;
  changed_.notify_all();
}

}  // namespace ramferry::tcp
