// SPDX-License-Identifier: MIT
#include "remote_memory.hpp"

#include <algorithm>
#include <tuple>

namespace ramferry::rdma {
namespace {

/// The entry of a map by offset that starts at or before `offset`; end() if there is none.
template <class Map>
auto at_or_before(Map& map, std::uint64_t offset) {
  auto after = map.upper_bound(offset);
  return after == map.begin() ? map.end() : std::prev(after);
}

/// Adds to disjoint ranges, and merges what touches.
void add_range(std::map<std::uint64_t, std::uint64_t>& ranges, std::uint64_t begin, std::uint64_t end) {
  auto at = at_or_before(ranges, begin);
  if (at == ranges.end() || at->second < begin) at = ranges.emplace(begin, end).first;
  at->second = std::max(at->second, end);
  for (auto next = std::next(at); next != ranges.end() && next->first <= at->second;
       next = ranges.erase(next))
    at->second = std::max(at->second, next->second);
}

Failure refused(const Grant& grant, const char* why) {
  return fail(errc::protocol_mismatch, "taking in a grant of " + std::to_string(grant.length) + " bytes at " +
                                           std::to_string(grant.offset) + " of slot " +
                                           std::to_string(static_cast<std::uint32_t>(grant.slot)) + ": " +
                                           why);
}

}  // namespace

RemoteWindow* RemoteMemory::find(SlotId slot, std::uint64_t offset) noexcept {
  const auto found = slots_.find(slot);
  if (found == slots_.end()) return nullptr;
  const auto window = at_or_before(found->second.windows, offset);
  if (window == found->second.windows.end() || offset - window->first >= window->second.length)
    return nullptr;
  return &window->second;
}

bool RemoteMemory::is_by_message(SlotId slot) const noexcept {
  const auto found = slots_.find(slot);
  return found != slots_.end() && found->second.by_message;
}

std::optional<std::uint64_t> RemoteMemory::size(SlotId slot) const noexcept {
  const auto found = slots_.find(slot);
  return found == slots_.end() ? std::nullopt : found->second.size;
}

Result<> RemoteMemory::on_by_message(const ByMessage& message) {
  const auto found = slots_.find(message.slot);
  if (found == slots_.end())
    return fail(errc::protocol_mismatch, "hearing that slot " +
                                             std::to_string(static_cast<std::uint32_t>(message.slot)) +
                                             " is not memory: nothing of it was asked for");
  found->second.by_message = true;
  found->second.size = message.slot_size;
  return {};
}

std::vector<Want> RemoteMemory::want(SlotId id, std::uint64_t offset, std::uint64_t length,
                                     std::uint64_t reach) {
  std::vector<Want> wants;
  if (length > ~0ULL - offset || reach > ~0ULL - offset - length) return wants;  // no slot reaches there
  Slot& slot = slots_[id];
  const std::uint64_t end = offset + length;
  while (offset < end) {
    if (const RemoteWindow* window = find(id, offset)) {
      offset = window->offset + window->length;
      continue;
    }
    const auto asked = at_or_before(slot.asked, offset);
    if (asked != slot.asked.end() && offset < asked->second.need_end) {
      offset = asked->second.need_end;
      continue;
    }
    if (asked != slot.asked.end() && offset < asked->second.end) {  // offered before, needed now
      const std::uint64_t need_end = std::min(end, asked->second.end);
      wants.push_back({id, offset, need_end - offset, 0});
      offset = asked->second.need_end = need_end;
      continue;
    }
    const auto next_window = slot.windows.upper_bound(offset);
    const auto next_asked = slot.asked.upper_bound(offset);
    std::uint64_t limit = end + reach;
    if (next_window != slot.windows.end()) limit = std::min(limit, next_window->first);
    if (next_asked != slot.asked.end()) limit = std::min(limit, next_asked->first);
    const std::uint64_t need_end = std::min(end, limit);
    wants.push_back({id, offset, need_end - offset, limit - need_end});
    slot.asked[offset] = {limit, need_end};
    offset = need_end;
  }
  return wants;
}

Result<> RemoteMemory::on_grant(const Grant& grant) {
  if (windows_ >= kMostPieces) return refused(grant, "there are too many");
  if (grant.length == 0 || grant.length > ~0ULL - grant.offset || grant.length > ~0ULL - grant.base)
    return refused(grant, "it is empty or too long");
  const auto found = slots_.find(grant.slot);
  if (found == slots_.end()) return refused(grant, "nothing of that slot was asked for");
  Slot& slot = found->second;
  const auto asked = at_or_before(slot.asked, grant.offset);
  const std::uint64_t end = grant.offset + grant.length;
  if (asked == slot.asked.end() || end > asked->second.end) return refused(grant, "it was not asked for");
  const std::uint64_t asked_from = asked->first;
  const Asked rest = asked->second;
  slot.asked.erase(asked);
  if (asked_from < grant.offset)
    slot.asked[asked_from] = {grant.offset, std::min(rest.need_end, grant.offset)};
  if (end < rest.end) slot.asked[end] = {rest.end, std::max(rest.need_end, end)};
  slot.size = grant.slot_size;
  ++windows_;
  RemoteWindow& window = slot.windows[grant.offset];
  window.offset = grant.offset;
  window.length = grant.length;
  window.base = grant.base;
  window.key = grant.key;
  return {};
}

bool RemoteMemory::was_given_back(SlotId slot, std::uint64_t offset) const noexcept {
  const auto found = slots_.find(slot);
  if (found == slots_.end()) return false;
  const auto range = at_or_before(found->second.given_back, offset);
  return range != found->second.given_back.end() && offset < range->second;
}

std::vector<Release> RemoteMemory::give_back() {
  std::vector<Release> releases;
  while (owed_ > 0) {
    Slot* of = nullptr;
    SlotId id{};
    RemoteWindow* oldest = nullptr;
    // Never used means asked for in advance: those go last, the farthest first.
    const auto key = [](const RemoteWindow& w) { return std::tuple(w.last_use == 0, w.last_use, ~w.offset); };
    for (auto& [slot_id, slot] : slots_) {
      for (auto& [offset, window] : slot.windows) {
        const bool kept =
            kept_slot_ == slot_id && offset <= kept_offset_ && kept_offset_ - offset < window.length;
        if (window.flying > 0 || kept || (oldest != nullptr && !(key(window) < key(*oldest)))) continue;
        of = &slot;
        id = slot_id;
        oldest = &window;
      }
    }
    if (oldest == nullptr) return releases;
    releases.push_back({id, oldest->offset, oldest->length});
    owed_ -= std::min(owed_, oldest->length);
    if (oldest->placed_end > oldest->offset) add_range(of->given_back, oldest->offset, oldest->placed_end);
    of->windows.erase(oldest->offset);
    --windows_;
  }
  return releases;
}

}  // namespace ramferry::rdma
