// SPDX-License-Identifier: MIT
// The memory that the peer may write: registered in the pieces it asks for, as far as the budget goes, and
// given up when it says that it is done with one.
//
// With the channel's lock held; the slot table has its own.
#pragma once

#include "core.hpp"
#include "message.hpp"

#include <ramferry/slot.hpp>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace ramferry::rdma {

class Exposure {
 public:
  struct Piece {
    SlotId slot{};
    std::uint64_t offset = 0;
    Bytes memory;
    Landing* landing = nullptr;
  };

  explicit Exposure(const PinPlan& plan) noexcept : chunk_(plan.chunk), budget_(plan.budget) {}

  SlotTable& slots() noexcept { return slots_; }
  /// Forgets slots and wishes: landings are not touched from here on, except for what is_busy().
  void close() noexcept;

  /// Queues what was asked for. Returns the answer for slots among it that are not memory;
  /// errc::protocol_mismatch for ranges outside of slots.
  Result<std::vector<ByMessage>> on_want(const WantMessage& message);
  /// The registration that the peer has given up; destroy it without the lock. errc::protocol_mismatch if it
  /// is none.
  Result<std::unique_ptr<PinnedRegion>> on_release(const Release& release);
  /// It is destroyed: until then it counts.
  void deregistered(std::uint64_t bytes) noexcept;

  /// The next piece to register; none if there is none or the budget does not allow it.
  std::optional<Piece> take_work();
  /// `piece` is registered as `region` from `base`.
  Grant publish(const Piece& piece, std::uint64_t base, std::unique_ptr<PinnedRegion> region);
  /// It could not be: do with less from now on. False if there is nothing left to do with.
  bool refused(const Piece& piece);
  bool is_busy() const noexcept { return busy_ > 0; }

  /// What the peer should give back for the piece it is waiting for; 0 if nothing, or if it has been asked.
  std::uint64_t reclaim() noexcept;

  /// No more work, and all registrations, for the end.
  std::vector<std::unique_ptr<PinnedRegion>> take_all();

 private:
  using Key = std::pair<SlotId, std::uint64_t>;
  struct Claim {
    enum class State : std::uint8_t { queued, registering, open };
    std::uint64_t length = 0;
    State state = State::queued;
    Landing* landing = nullptr;
    std::unique_ptr<PinnedRegion> region;
  };
  Result<> queue(const Want& want, Landing& landing, bool urgent);
  std::uint64_t claimed_until(SlotId slot, std::uint64_t offset) const;
  void forget_done(std::deque<Key>& keys);

  const std::uint64_t chunk_;
  std::uint64_t budget_, pinned_ = 0, asked_back_ = 0;
  SlotTable slots_;
  std::map<Key, Claim> claims_;  // disjoint
  std::deque<Key> urgent_, order_;
  std::size_t busy_ = 0;
  bool closed_ = false;
};

}  // namespace ramferry::rdma
