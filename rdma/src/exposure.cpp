// SPDX-License-Identifier: MIT
#include "exposure.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kMostClaims = 1 << 18;  // pieces that a peer can make us remember
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
  urgent_.clear();
  order_.clear();
}

std::uint64_t Exposure::claimed_until(SlotId slot, std::uint64_t offset) const {
  auto after = claims_.upper_bound({slot, offset});
  if (after == claims_.begin()) return offset;
  const auto& [key, claim] = *std::prev(after);
  return key.first == slot ? std::max(offset, key.second + claim.length) : offset;
}

Result<> Exposure::queue(const Want& want, Landing& landing, bool urgent) {
  // Whole pages where the slot has them: registering pins whole pages anyway.
  const std::uint64_t size = landing.size();
  const std::uint64_t reach = std::min(want.reach, size - want.offset - want.length);
  const std::uint64_t end = want.offset + want.length + reach;
  std::uint64_t offset = want.offset;
  while (offset < end) {
    if (const std::uint64_t until = claimed_until(want.slot, offset); until > offset) {
      const auto claim = std::prev(claims_.upper_bound({want.slot, offset}));
      if (urgent && claim->second.state == Claim::State::queued) urgent_.push_back(claim->first);
      offset = until;
      continue;
    }
    if (claims_.size() >= kMostClaims)
      return fail(errc::protocol_mismatch, "registering memory for the peer: it asks for too many pieces");
    const auto next = claims_.lower_bound({want.slot, offset});
    std::uint64_t length = std::min(end - offset, chunk_);
    if (next != claims_.end() && next->first.first == want.slot)
      length = std::min(length, next->first.second - offset);
    Claim& claim = claims_[{want.slot, offset}];
    claim.length = length;
    claim.landing = &landing;
    (urgent ? urgent_ : order_).push_back({want.slot, offset});
    offset += length;
  }
  return {};
}

void Exposure::forget_done(std::deque<Key>& keys) {
  while (!keys.empty()) {
    const auto claim = claims_.find(keys.front());
    if (claim != claims_.end() && claim->second.state == Claim::State::queued) return;
    keys.pop_front();
  }
}

std::optional<Exposure::Piece> Exposure::take_work() {
  forget_done(urgent_);
  forget_done(order_);
  std::deque<Key>& keys = urgent_.empty() ? order_ : urgent_;
  if (keys.empty()) return std::nullopt;
  const Key key = keys.front();
  Claim& claim = claims_[key];
  if (claim.length > budget_ - std::min(budget_, pinned_)) return std::nullopt;
  keys.pop_front();
  claim.state = Claim::State::registering;
  pinned_ += claim.length;
  ++busy_;
  return Piece{key.first, key.second, claim.landing->window(key.second, claim.length), claim.landing};
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
  pinned_ -= piece.memory.size();
  const auto claim = claims_.find({piece.slot, piece.offset});
  if (closed_) return true;
  claim->second.state = Claim::State::queued;
  urgent_.push_front(claim->first);
  if (pinned_ > 0) {
    budget_ = std::max(pinned_, kLeastPiece);
    return true;
  }
  if (claim->second.length <= kLeastPiece) return false;
  // Nothing else is registered, and still it is too much: half of it.
  const std::uint64_t half = std::max(kLeastPiece, claim->second.length / 2 / kPage * kPage);
  Claim& second = claims_[{piece.slot, piece.offset + half}];
  second.length = claim->second.length - half;
  second.landing = claim->second.landing;
  claim->second.length = half;
  order_.push_front({piece.slot, piece.offset + half});
  budget_ = half;
  return true;
}

std::uint64_t Exposure::reclaim() noexcept {
  forget_done(urgent_);
  if (urgent_.empty()) return 0;
  const std::uint64_t needed = pinned_ + claims_[urgent_.front()].length;
  if (needed <= budget_ + asked_back_) return 0;
  // One piece more than needed, so that the next need not ask.
  const std::uint64_t bytes = std::min(needed - budget_ + chunk_, pinned_);
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
  urgent_.clear();
  order_.clear();
  return all;
}

}  // namespace ramferry::rdma
