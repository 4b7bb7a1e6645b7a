// SPDX-License-Identifier: MIT
// The memory that was lent for placing from: in chunks, each registered at most once after a tracker may
// watch it.
//
// With the channel's lock held.
#pragma once

#include "core.hpp"
#include "lane.hpp"

#include <ramferry/channel.hpp>

#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace ramferry::rdma {

struct LocalChunk : Flight {
  enum class State : std::uint8_t {
    waiting,      ///< may be registered
    registering,  ///< a worker does so now
    ready,
    gone,  ///< watched by a tracker and given back: registering it again would look like writes to it
  };
  Bytes memory;  ///< ours to read
  SlotId slot{};
  std::uint64_t offset = 0;  ///< where it goes
  std::size_t rank = 0;      ///< in the order of lending
  State state = State::waiting;
  bool sealed = false;  ///< a tracker may watch it
  std::unique_ptr<PinnedRegion> region;

  bool is_settled() const noexcept { return state == State::ready || state == State::gone; }
};

class LocalMemory {
 public:
  LocalMemory(const PinPlan& plan, Pin pin, std::uint64_t most_regions) noexcept;

  /// The chunks that the plan adds; what was lent before stays as it is.
  std::vector<LocalChunk*> add(std::span<const Placement> plan);
  /// The chunk that `at` lies in, or null.
  LocalChunk* find(const std::byte* at) noexcept;
  /// From `at`, which is in no chunk, to the next chunk.
  std::size_t gap_after(const std::byte* at) const noexcept;

  /// Registers `chunk` before others.
  void promote(LocalChunk& chunk) { promoted_.push_back(&chunk); }
  /// The next chunk to register, now in State::registering; null if none may be.
  LocalChunk* take_work();
  void registered(LocalChunk& chunk, std::unique_ptr<PinnedRegion> region);
  /// It could not be registered. pin=demand: makes do with less from now on.
  void refused(LocalChunk& chunk);

  /// Registering `bytes` more would exceed the budget.
  bool is_over(std::uint64_t bytes) const noexcept { return reserved_ + bytes > budget_; }
  /// Gives up the registration that was used longest ago and is not in use; null if there is none. Destroy it
  /// without the lock, then say so: until then it counts.
  std::unique_ptr<PinnedRegion> evict();
  void deregistered(std::uint64_t bytes) noexcept { reserved_ -= bytes; }
  void touch(LocalChunk& chunk) noexcept;
  /// All registrations, for the end.
  std::vector<std::unique_ptr<PinnedRegion>> take_all();

 private:
  void add_range(const Placement& range, std::vector<LocalChunk*>& added);
  std::vector<Placement> merged(std::span<const Placement> plan) const;

  const std::uint64_t chunk_;
  const Pin pin_;
  const std::uint64_t most_regions_;
  std::uint64_t next_chunk_;
  std::uint64_t budget_, reserved_ = 0, uses_ = 0;
  std::map<const std::byte*, std::unique_ptr<LocalChunk>, std::less<>> chunks_;  // by start
  std::vector<LocalChunk*> order_;
  std::size_t next_ = 0;     // in order_: not looked at yet
  std::size_t reached_ = 0;  // the rank up to which chunks were asked for
  std::deque<LocalChunk*> promoted_;
};

}  // namespace ramferry::rdma
