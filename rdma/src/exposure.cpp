// SPDX-License-Identifier: MIT
#include "exposure.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLeastPiece = 64 << 10;

}  // namespace

Result<std::vector<ByMessage>> Exposure::on_want(const WantMessage& message) {
  std::vector<ByMessage> not_memory;
  if (closed_) return not_memory;  // it may have asked in advance
  for (const Want& want : message.wants) {
    RAMFERRY_TRY_ASSIGN(Landing * landing, slots_.find(want.slot, want.offset, want.length));
    if (want.length == 0) continue;
    if (landing->window(want.offset, want.length).empty())
      not_memory.push_back({want.slot, landing->size()});
    else
      RAMFERRY_TRY(queue(want, *landing, message.urgent));
  }
  return not_memory;
}

void Exposure::close() noexcept {
  closed_ = true;
  slots_.revoke();
  queue_.clear();
}

std::uint64_t Exposure::claimed_until(SlotId slot, std::uint64_t offset) const {
  auto after = claims_.upper_bound({slot, offset});
  if (after == claims_.begin()) return offset;
  const auto& [key, claim] = *std::prev(after);
  return key.first == slot ? std::max(offset, key.second + claim.length) : offset;
}

Result<> Exposure::queue(const Want& want, Landing& landing, bool urgent) {
  const std::uint64_t size = landing.size();
  const std::uint64_t reach = std::min(want.reach, size - want.offset - want.length);
  const std::uint64_t end = want.offset + want.length + reach;
  std::uint64_t offset = want.offset;
  while (offset < end) {
    if (const std::uint64_t until = claimed_until(want.slot, offset); until > offset) {
      if (urgent) hurry(std::prev(claims_.upper_bound({want.slot, offset})));
      offset = until;
      continue;
    }
    if (claims_.size() >= kMostPieces)
      return fail(errc::protocol_mismatch, "registering memory for the peer: it asks for too many pieces");
    const auto next = claims_.lower_bound({want.slot, offset});
    std::uint64_t length = std::min(end - offset, chunk_);
    if (next != claims_.end() && next->first.first == want.slot)
      length = std::min(length, next->first.second - offset);
    const auto claim = claims_.try_emplace({want.slot, offset}).first;
    claim->second.length = length;
    claim->second.landing = &landing;
    put(claim, last(urgent));
    offset += length;
  }
  return {};
}

void Exposure::put(Claims::iterator claim, Place at) {
  claim->second.state = Claim::State::queued;
  claim->second.place = at;
  queue_.emplace(at, claim->first);
}

void Exposure::hurry(Claims::iterator claim) {
  if (claim->second.state != Claim::State::queued || !claim->second.place.later) return;
  queue_.erase(claim->second.place);
  put(claim, last(true));
}

/// A part of the budget, so that those that are ahead and behind have room too.
std::uint64_t Exposure::piece_at_most() const noexcept {
  return std::max(kLeastPiece, std::min(chunk_, budget_ / 4 / kPage * kPage));
}

std::optional<Exposure::Piece> Exposure::take_work() {
  if (queue_.empty()) return std::nullopt;
  const auto claim = claims_.find(queue_.begin()->second);
  const std::uint64_t length = std::min(claim->second.length, piece_at_most());
  // With nothing registered the next one goes whatever the budget: waiting would not make room for it.
  if (pinned_ > 0 && length > budget_ - std::min(budget_, pinned_)) return std::nullopt;
  const Key key = claim->first;
  Landing* const landing = claim->second.landing;
  const bool urgent = !claim->second.place.later;
  queue_.erase(queue_.begin());
  if (length < claim->second.length) {  // it was queued when there was more of a budget
    const auto rest = claims_.try_emplace({key.first, key.second + length}).first;
    rest->second.length = claim->second.length - length;
    rest->second.landing = landing;
    put(rest, first(urgent));
    claim->second.length = length;
  }
  claim->second.state = Claim::State::registering;
  pinned_ += length;
  ++busy_;
  return Piece{key.first, key.second, landing->window(key.second, length), landing};
}

Grant Exposure::publish(const Piece& piece, std::uint64_t base, std::unique_ptr<PinnedRegion> region) {
  --busy_;
  Claim& claim = claims_[{piece.slot, piece.offset}];
  claim.state = Claim::State::open;
  claim.region = std::move(region);
  return {piece.slot, piece.offset, claim.length, base, claim.region->remote_key(), piece.landing->size()};
}

bool Exposure::refused(const Piece& piece) {
  --busy_;
  const std::uint64_t length = piece.memory.size();
  pinned_ -= length;
  if (closed_) return true;
  const auto claim = claims_.find({piece.slot, piece.offset});
  put(claim, first(true));
  if (pinned_ == 0 && length <= kLeastPiece) return false;
  // What is registered fits, that and the whole piece does not: look for the limit in between.
  const std::uint64_t less = std::max({pinned_, (pinned_ + length) / 2 / kPage * kPage, kLeastPiece});
  budget_ = std::min(budget_, less);
  return true;
}

std::uint64_t Exposure::reclaim() noexcept {
  if (queue_.empty() || queue_.begin()->first.later) return 0;
  const std::uint64_t length = claims_.find(queue_.begin()->second)->second.length;
  const std::uint64_t needed = pinned_ + std::min(length, piece_at_most());
  if (needed <= budget_ + asked_back_) return 0;
  // One piece more than needed, so that the next need not ask.
  const std::uint64_t bytes = std::min(needed - budget_ + piece_at_most(), pinned_);
  asked_back_ = bytes;
  return bytes;
}

Result<std::unique_ptr<PinnedRegion>> Exposure::on_release(const Release& release) {
  if (closed_) return nullptr;  // it cannot know yet that all were taken back
  const auto claim = claims_.find({release.slot, release.offset});
  if (claim == claims_.end() || claim->second.state != Claim::State::open ||
      claim->second.length != release.length)
    return fail(errc::protocol_mismatch, "taking back a grant: it was not given");
  std::unique_ptr<PinnedRegion> region = std::move(claim->second.region);
  claims_.erase(claim);
  return region;
}

void Exposure::deregistered(std::uint64_t bytes) noexcept {
  pinned_ -= bytes;
  asked_back_ -= std::min(asked_back_, bytes);
}

std::vector<std::unique_ptr<PinnedRegion>> Exposure::take_all() {
  std::vector<std::unique_ptr<PinnedRegion>> all;
  for (auto& [key, claim] : claims_) {
    if (claim.region) all.push_back(std::move(claim.region));
  }
  claims_.clear();
  queue_.clear();
  return all;
}

}  // namespace ramferry::rdma
