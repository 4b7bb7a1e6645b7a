// SPDX-License-Identifier: MIT
// The memory that the peer may write: registered in the pieces it asks for, as far as the budget goes, and
// given up when it says that it is done with one.
//
// With the channel's lock held; the slot table has its own.
#pragma once

#include "core.hpp"
#include "message.hpp"

#include <ramferry/slot.hpp>

#include <map>
#include <memory>
#include <optional>
#include <tuple>
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
  /// It could not be: do with less from now on, and try again. False if there is nothing left to do with.
  bool refused(const Piece& piece);
  bool is_busy() const noexcept { return busy_ > 0; }
  /// Pieces that wait to be registered.
  std::size_t waiting() const noexcept { return queue_.size(); }

  /// What the peer should give back for the piece it is waiting for; 0 if nothing, or if it has been asked.
  std::uint64_t reclaim() noexcept;

  /// No more work, and all registrations, for the end.
  std::vector<std::unique_ptr<PinnedRegion>> take_all();

 private:
  using Key = std::pair<SlotId, std::uint64_t>;
  /// A claim's place in the queue: what is urgent goes first, and each kind in its order.
  struct Place {
    bool later = false;  ///< not urgent
    std::int64_t number = 0;
    friend bool operator<(const Place& a, const Place& b) noexcept {
      return std::tie(a.later, a.number) < std::tie(b.later, b.number);
    }
  };
  struct Claim {
    enum class State : std::uint8_t { queued, registering, open };
    std::uint64_t length = 0;
    State state = State::queued;
    Place place;  ///< State::queued
    Landing* landing = nullptr;
    std::unique_ptr<PinnedRegion> region;
  };
  using Claims = std::map<Key, Claim>;
  Result<> queue(const Want& want, Landing& landing, bool urgent);
  std::uint64_t claimed_until(SlotId slot, std::uint64_t offset) const;
  void put(Claims::iterator claim, Place at);
  void hurry(Claims::iterator claim);
  Place last(bool urgent) noexcept { return {!urgent, next_++}; }
  Place first(bool urgent) noexcept { return {!urgent, --before_}; }
  std::uint64_t piece_at_most() const noexcept;

  const std::uint64_t chunk_;
  std::uint64_t budget_, pinned_ = 0, asked_back_ = 0;
  SlotTable slots_;
  Claims claims_;               // disjoint
  std::map<Place, Key> queue_;  // the claims that wait, each once
  std::int64_t next_ = 0, before_ = 0;
  std::size_t busy_ = 0;
  bool closed_ = false;
};

}  // namespace ramferry::rdma
