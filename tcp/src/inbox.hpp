// SPDX-License-Identifier: MIT
// The ordered bytes that arrived and were not received yet, each held back until the fences before it are
// passed.
//
// Not locked: its channel does that. The exception is the memory itself: free() may be written, and
// readable() read, without the lock, because only one thread adds and only one takes.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/channel.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

namespace ramferry::tcp {

class Inbox {
 public:
  /// Most fences whose bytes can wait at once: the rest of what a peer can make us remember.
  static constexpr std::size_t kMostBarriers = 65536;

  explicit Inbox(std::size_t capacity);
  std::size_t capacity() const noexcept { return capacity_; }

  /// Where the next `bytes` go, in one or two pieces; empty pieces if there is no room for so many.
  std::array<Bytes, 2> free(std::size_t bytes) noexcept;
  /// `bytes` were put there, and were sent after the fence `after`.
  void add(std::size_t bytes, Epoch after);
  bool crowded(Epoch passed) noexcept;

  /// What can be received now that all up to `passed` is in place, as one or two pieces of at most `most`
  /// bytes.
  std::array<ConstBytes, 2> readable(Epoch passed, std::size_t most) noexcept;
  void take(std::size_t bytes) noexcept { taken_ += bytes; }

  bool empty() const noexcept { return taken_ == added_; }
  std::uint64_t added() const noexcept { return added_; }
  std::uint64_t taken() const noexcept { return taken_; }

 private:
  void forget(Epoch passed) noexcept;

  struct Barrier {
    std::uint64_t at;  ///< bytes from here on …
    Epoch after;       ///< … wait for this fence
  };

  std::size_t capacity_;
  std::unique_ptr<std::byte[]> memory_;  ///< a ring; pages never used stay untouched
  std::uint64_t added_ = 0, taken_ = 0;  ///< since the beginning; modulo capacity they are places in the ring
  Epoch newest_ = 0;
  std::deque<Barrier> barriers_;
};

}  // namespace ramferry::tcp
