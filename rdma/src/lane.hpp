// SPDX-License-Identifier: MIT
// One data connection, as the end that places sees it: writes are gathered into lists, a list is posted by
// one doorbell and reported by one completion, and no more bytes than the window are in flight.
//
// With the channel's lock held; post() alone runs outside it, on the sending thread.
#pragma once

#include "core.hpp"
#include "message.hpp"
#include "staging.hpp"

#include <array>
#include <deque>
#include <memory>
#include <vector>

namespace ramferry::rdma {

inline constexpr std::size_t kMostListRequests = 64;
inline constexpr std::uint32_t kMostMessageBytes = 1 << 20;
/// Fences that a peer must be able to take in before it has acknowledged any.
inline constexpr std::uint32_t kMostUnsettled = 32;

/// Something that must stay registered while writes use it.
struct Flight {
  std::uint64_t flying = 0;
  std::uint64_t last_use = 0;  ///< of a counter that only grows; 0: never
};

/// A write to be made.
struct LaneWrite {
  const std::byte* local = nullptr;
  std::uint32_t length = 0, local_key = 0, remote_key = 0;
  std::uint64_t remote_address = 0;
};

class Lane {
 public:
  struct Limits {
    std::uint32_t depth = 0;
    std::uint64_t window = 0, list_bytes = 0;
  };

  Lane(Limits limits, std::uint64_t first_id) noexcept;
  void attach(std::unique_ptr<QueuePair> queue) { queue_ = std::move(queue); }
  QueuePair* queue() const noexcept { return queue_.get(); }

  /// Adds a write, merged with the last one where they touch. `holds` stay in flight until it has completed.
  void stage(const LaneWrite& write, std::array<Flight*, 2> holds);
  /// A piece of the staging ring that staged writes read from, returned when they have completed.
  void stage_piece(std::size_t piece) { staged_.pieces.push_back(piece); }
  bool has_staged() const noexcept { return !staged_requests_.empty(); }
  bool list_is_full() const noexcept;
  bool is_idle() const noexcept { return flying_.empty(); }
  /// The staged list fits into window and queue.
  bool has_room() const noexcept;

  /// Ends the list with a fence of the writes since the last one; `buffer` holds its message.
  void stage_fence(ConstBytes buffer, std::uint32_t local_key);
  LaneFence since_fence(Epoch epoch) const noexcept { return {epoch, writes_, bytes_}; }
  bool unfenced() const noexcept { return writes_ > 0; }

  /// The staged list becomes flying; what is to be posted stays in requests() until the next launch.
  std::vector<WorkRequest>& launch();

  /// All lists up to the one that `id` belongs to have completed. Their pieces go back to `ring`.
  Result<> on_completed(std::uint64_t id, StagingRing& ring);

 private:
  struct List {
    std::uint64_t id = 0, bytes = 0;
    std::size_t requests = 0;
    std::vector<Flight*> holds;
    std::vector<std::size_t> pieces;
  };
  bool merge(const LaneWrite& write);
  void hold(Flight* what);

  const Limits limits_;
  std::uint64_t next_id_;
  std::unique_ptr<QueuePair> queue_;
  List staged_;
  std::vector<WorkRequest> staged_requests_, posting_;
  std::deque<List> flying_;
  std::uint64_t flying_bytes_ = 0;
  std::size_t flying_requests_ = 0;
  std::uint64_t writes_ = 0, bytes_ = 0;  // since the last fence
};

}  // namespace ramferry::rdma
