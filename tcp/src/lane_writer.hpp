// SPDX-License-Identifier: MIT
// The sending half of one connection: whole frames from any thread, and status frames that never wait.
#pragma once

#include "counters.hpp"
#include "frame.hpp"

#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

namespace ramferry::tcp {

/// A frame on its way out: its own bytes, then its payload where it lies.
struct OutFrame {
  std::vector<std::byte> head;               ///< header and table
  std::vector<iovec> body;                   ///< the payload: borrowed memory, or some of `kept`
  std::vector<std::vector<std::byte>> kept;  ///< payload that outlives the call that brought it
  std::size_t body_bytes = 0;

  void append(ConstBytes payload);
  void append_copy(ConstBytes payload);
  void clear() noexcept;
  std::size_t wire_bytes() const noexcept { return head.size() + body_bytes; }
};

/// How far this end got, as its next status frame says. Written by the channel, read by its writers.
struct Progress {
  std::atomic<Epoch> in_place = 0;
  std::atomic<std::uint64_t> consumed = 0;
};

class LaneWriter {
 public:
  /// Borrows all; `fd` is a blocking socket.
  LaneWriter(int fd, const Progress& progress, Counters& counters) noexcept
      : fd_(fd), progress_(progress), counters_(counters) {}

  /// Any thread. Returns when the socket took all of it, or failed: then nothing can be written any more.
  Result<> write(const OutFrame& frame);

  /// Any thread. A status frame goes out as soon as the socket has room; false if that is not now: then
  /// somebody must call push_status() again. Never blocks, because receiving threads call it: two ends that
  /// both send in bulk would otherwise wait for each other.
  bool send_status();
  bool push_status();

  /// Any thread. The last frame of all, if the lane can be had before the deadline; does not wait for room.
  void write_at_last(ConstBytes frame, Deadline deadline) noexcept;

  /// Whether frames other than a status were written since the last call: then no heartbeat is needed.
  bool was_busy() noexcept { return busy_.exchange(false, std::memory_order_relaxed); }

 private:
  Result<> write_pieces(std::span<iovec> pieces);
  void gather(const OutFrame& frame);

  const int fd_;
  const Progress& progress_;
  Counters& counters_;
  std::atomic<bool> status_due_ = false;
  std::atomic<bool> busy_ = false;
  std::mutex mutex_;  ///< the right to write; guards what follows
  std::array<std::byte, kHeaderBytes> status_{};
  std::size_t status_left_ = 0;  ///< the end of status_ that a non-blocking write left over
  std::vector<iovec> pieces_;
};

}  // namespace ramferry::tcp
