// SPDX-License-Identifier: MIT
// What the peer has granted: which parts of its slots may be written, under which keys.
//
// With the channel's lock held.
#pragma once

#include "lane.hpp"
#include "message.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

namespace ramferry::rdma {

struct RemoteWindow : Flight {
  std::uint64_t offset = 0, length = 0, base = 0;
  std::uint64_t placed_end = 0;  ///< nothing was placed from here on
  std::uint32_t key = 0;
};

class RemoteMemory {
 public:
  /// The window that `offset` lies in, or null.
  RemoteWindow* find(SlotId slot, std::uint64_t offset) noexcept;
  /// The slot is not memory: place by message.
  bool is_by_message(SlotId slot) const noexcept;
  /// Of the whole slot, once the peer has granted anything of it.
  std::optional<std::uint64_t> size(SlotId slot) const noexcept;

  /// What of [offset, offset + length) is neither granted nor asked for already; it counts as asked for now.
  std::vector<Want> want(SlotId slot, std::uint64_t offset, std::uint64_t length, std::uint64_t reach);

  // These two: errc::protocol_mismatch for what was not asked for.
  Result<> on_grant(const Grant& grant);
  Result<> on_by_message(const ByMessage& message);
  /// The peer wants this much back.
  void on_reclaim(std::uint64_t bytes) noexcept { owed_ = std::max(owed_, bytes); }

  /// A window was given back whose placements had come as far as `offset`: the peer has no room for all, and
  /// this is not the first visit. What was given back before it was placed to is visited for the first time
  /// yet.
  bool was_given_back(SlotId slot, std::uint64_t offset) const noexcept;
  /// Windows to give back towards what the peer wants: idle ones, used longest ago first. They are forgotten
  /// here.
  std::vector<Release> give_back();
  /// The window around `offset` is waited for: it is not given back before the next call.
  void keep(SlotId slot, std::uint64_t offset) noexcept {
    kept_slot_ = slot;
    kept_offset_ = offset;
  }
  /// It was placed to, up to `end` of its slot.
  void touch(RemoteWindow& window, std::uint64_t end) noexcept {
    window.last_use = ++uses_;
    window.placed_end = std::max(window.placed_end, end);
  }

 private:
  struct Asked {
    std::uint64_t end = 0;       // may be granted up to here
    std::uint64_t need_end = 0;  // will be granted up to here
  };
  struct Slot {
    bool by_message = false;
    std::optional<std::uint64_t> size;
    std::map<std::uint64_t, RemoteWindow> windows;  // by offset
    std::map<std::uint64_t, Asked> asked;           // by offset; disjoint among themselves and with windows
    std::map<std::uint64_t, std::uint64_t> given_back;  // end by offset; disjoint
  };
  std::map<SlotId, Slot> slots_;  // those that anything was asked for of
  std::size_t windows_ = 0;       // of all slots
  std::uint64_t owed_ = 0, uses_ = 0;
  std::optional<SlotId> kept_slot_;
  std::uint64_t kept_offset_ = 0;
};

}  // namespace ramferry::rdma
