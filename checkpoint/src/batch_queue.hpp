// SPDX-License-Identifier: MIT
// A few buffers that go round between a thread that fills them and one that empties them, in order.
//
// Two threads; each may give up at any time, which the other then hears of.
#pragma once

#include <ramferry/bytes.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace ramferry::checkpoint {

/// Bytes that are appended piece by piece, never beyond the capacity. Not initialised.
class Batch {
 public:
  explicit Batch(std::size_t capacity)
      : memory_(std::make_unique_for_overwrite<std::byte[]>(capacity)), capacity_(capacity) {}

  ConstBytes bytes() const noexcept { return {memory_.get(), used_}; }
  std::size_t room() const noexcept { return capacity_ - used_; }
  /// `count` more bytes, at most room(), to be filled.
  Bytes grow(std::size_t count) noexcept {
    used_ += count;
    return {memory_.get() + used_ - count, count};
  }
  void clear() noexcept { used_ = 0; }

  std::uint64_t ram_bytes = 0;  ///< guest memory that is told of in it

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t capacity_, used_ = 0;
};

class BatchQueue {
 public:
  BatchQueue(std::size_t count, std::size_t capacity) {
    for (std::size_t i = 0; i < count; ++i) batches_.emplace_back(capacity);
    for (Batch& each : batches_) empty_.push_back(&each);
  }

  /// An empty one to fill, once there is one; null if the other end has given up.
  Batch* take_empty() { return take(empty_); }
  /// The next full one; null when there will be no more.
  Batch* take_full() { return take(full_); }
  void put_full(Batch* batch) { put(full_, batch); }
  void put_empty(Batch* batch) {
    batch->clear();
    batch->ram_bytes = 0;
    put(empty_, batch);
  }
  /// From the filling end: no more will come. What is full may still be taken.
  void finish() { set(finished_); }
  /// From either end: nothing more is to be done.
  void give_up() { set(given_up_); }

 private:
  Batch* take(std::deque<Batch*>& from) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return given_up_ || !from.empty() || (finished_ && &from == &full_); });
    if (given_up_ || from.empty()) return nullptr;
    Batch* const batch = from.front();
    from.pop_front();
    return batch;
  }
  void put(std::deque<Batch*>& to, Batch* batch) {
    const std::lock_guard lock(mutex_);
    to.push_back(batch);
    changed_.notify_all();
  }
  void set(bool& flag) {
    const std::lock_guard lock(mutex_);
    flag = true;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Batch> batches_;
  std::deque<Batch*> empty_, full_;
  bool finished_ = false, given_up_ = false;
};

}  // namespace ramferry::checkpoint
