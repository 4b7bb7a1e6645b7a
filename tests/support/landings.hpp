// SPDX-License-Identifier: MIT
// Landings for tests: one that only stores, as a checkpoint or a decoder does, and can be held up or made to
// fail.
#pragma once

#include <ramferry/slot.hpp>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <vector>

namespace ramferry::test {

/// Has no window: all that is placed comes by store(). Any thread.
class StoringLanding final : public Landing {
 public:
  struct Stored {
    std::uint64_t offset = 0, length = 0;
    Encoding encoding = kRawEncoding;
    std::vector<std::byte> bytes;
  };
  enum class Keep { all, encoded };

  /// With Keep::encoded, raw content is forgotten: the size may be anything.
  explicit StoringLanding(std::uint64_t size, Keep keep = Keep::all) : size_(size) {
    if (keep == Keep::all) content_.assign(size, std::byte{0xaa});
  }

  std::uint64_t size() const noexcept override { return size_; }
  Bytes window(std::uint64_t, std::uint64_t) noexcept override { return {}; }
  void note_written(std::uint64_t, std::uint64_t) noexcept override {}

  Result<> store(std::uint64_t offset, std::uint64_t length, Encoding encoding, ConstBytes bytes) override {
    std::unique_lock lock(mutex_);
    entered_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !shut_; });
    if (failure_) return Failure(*failure_);
    if (encoding != kRawEncoding)
      encoded_.push_back({offset, length, encoding, {bytes.begin(), bytes.end()}});
    else if (!content_.empty())
      std::memcpy(content_.data() + offset, bytes.data(), length);
    return {};
  }

  Result<> zero(std::uint64_t offset, std::uint64_t length) override {
    const std::unique_lock lock(mutex_);
    if (failure_) return Failure(*failure_);
    if (!content_.empty()) std::memset(content_.data() + offset, 0, length);
    return {};
  }

  /// From now on store() waits until open() is called.
  void shut() { set_shut(true); }
  void open() { set_shut(false); }
  /// Waits until a store() has begun.
  void wait_until_entered() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return entered_; });
  }
  /// From now on store() and zero() fail with it.
  void fail_with(Error error) {
    const std::unique_lock lock(mutex_);
    failure_ = std::move(error);
  }

  std::vector<std::byte> content() const {
    const std::unique_lock lock(mutex_);
    return content_;
  }
  std::vector<Stored> encoded() const {
    const std::unique_lock lock(mutex_);
    return encoded_;
  }

 private:
  void set_shut(bool shut) {
    const std::unique_lock lock(mutex_);
    shut_ = shut;
    changed_.notify_all();
  }

  const std::uint64_t size_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool shut_ = false, entered_ = false;
  std::optional<Error> failure_;
  std::vector<std::byte> content_;
  std::vector<Stored> encoded_;
};

}  // namespace ramferry::test
