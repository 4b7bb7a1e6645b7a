// SPDX-License-Identifier: MIT
// One connection of a channel: its socket, both halves, and what its liveness is judged by.
#pragma once

#include "counters.hpp"
#include "lane_queue.hpp"
#include "lane_reader.hpp"
#include "lane_writer.hpp"

#include <ramferry/unique_fd.hpp>

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

namespace ramferry::tcp {

class SocketSource final : public ByteSource {
 public:
  SocketSource(int fd, Counters& counters) noexcept : fd_(fd), counters_(counters) {}
  Result<std::size_t> read(std::span<iovec> pieces) override;

  // Any thread:
  std::uint64_t received() const noexcept { return received_.load(std::memory_order_relaxed); }
  /// Whether the receiving thread waits for the peer: only then is silence the peer's.
  bool waiting() const noexcept { return waiting_.load(std::memory_order_relaxed); }
  /// Whether the last read failed. Receiving thread.
  bool failed() const noexcept { return failed_; }

 private:
  const int fd_;
  Counters& counters_;
  std::atomic<std::uint64_t> received_ = 0;
  std::atomic<bool> waiting_ = false;
  bool failed_ = false;
};

/// What a channel is told by its lanes, each on its own receiving thread.
class LaneOwner {
 public:
  virtual ~LaneOwner() = default;
  virtual Result<> begin_landing() = 0;
  virtual void end_landing() noexcept = 0;
  virtual Result<std::array<Bytes, 2>> room_for(std::size_t lane, std::size_t bytes) = 0;
  virtual void bytes_arrived(std::size_t bytes) = 0;
  virtual Result<> fence_arrived(std::size_t lane, Epoch epoch) = 0;
  virtual Result<> status_arrived(Epoch in_place, std::uint64_t consumed) = 0;
  virtual Result<> finish_arrived(std::size_t lane) = 0;
};

class Lane final : private LaneEvents {
 public:
  Lane(std::size_t index, UniqueFd socket, LaneOwner& owner, const SlotTable& slots, const Progress& progress,
       Counters& counters) noexcept
      : index_(index),
        socket_(std::move(socket)),
        owner_(owner),
        source(socket_.get(), counters),
        writer(socket_.get(), progress, counters),
        reader(source, slots, *this, counters) {}

  int fd() const noexcept { return socket_.get(); }

 private:
  Result<> begin_landing() override { return owner_.begin_landing(); }
  void end_landing() noexcept override { owner_.end_landing(); }
  Result<std::array<Bytes, 2>> room_for(std::size_t bytes) override { return owner_.room_for(index_, bytes); }
  void bytes_arrived(std::size_t bytes) override { owner_.bytes_arrived(bytes); }
  Result<> fence_arrived(Epoch epoch) override { return owner_.fence_arrived(index_, epoch); }
  Result<> status_arrived(Epoch in_place, std::uint64_t consumed) override {
    return owner_.status_arrived(in_place, consumed);
  }
  Result<> finish_arrived() override { return owner_.finish_arrived(index_); }

  const std::size_t index_;
  UniqueFd socket_;
  LaneOwner& owner_;

 public:
  SocketSource source;
  LaneWriter writer;
  LaneReader reader;
  LaneQueue queue;  ///< used with several lanes only; with one, frames are written by whoever has them
  std::thread receiving, sending;

  Epoch passed = 0;  ///< the newest fence that this lane has passed; guarded by the channel's mutex

  // The heartbeat thread's:
  std::uint64_t last_received = 0;
  std::uint32_t silent_ticks = 0;
};

}  // namespace ramferry::tcp
