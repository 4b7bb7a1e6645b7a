// SPDX-License-Identifier: MIT
#include "local_memory.hpp"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::size_t kAhead = 2;  // pin=demand: chunks registered before they are asked for
/// The first chunk; each is twice the one before: so the first byte need not wait for much to be registered.
constexpr std::uint64_t kFirstChunk = 1 << 20;
constexpr std::uint64_t kFirstGap = 64 << 10;  // the least worth merging over when there are too many ranges

const std::byte* end_of(ConstBytes bytes) noexcept {
  return bytes.data() + bytes.size();
}

/// `next` goes on where `last` ends, over a gap of at most `gap` bytes, in memory as in the slot.
bool follows(const Placement& last, const Placement& next, std::uint64_t gap) noexcept {
  if (last.slot != next.slot || next.bytes.data() < end_of(last.bytes)) return false;
  const auto distance = static_cast<std::uint64_t>(next.bytes.data() - end_of(last.bytes));
  return distance <= gap && next.offset == last.offset + last.bytes.size() + distance;
}

std::vector<Placement> merge(std::span<const Placement> plan, std::uint64_t gap) {
  std::vector<Placement> merged;
  for (const Placement& each : plan) {
    if (each.bytes.empty()) continue;
    if (merged.empty() || !follows(merged.back(), each, gap)) {
      merged.push_back(each);
      continue;
    }
    ConstBytes& bytes = merged.back().bytes;
    bytes = ConstBytes(bytes.data(), static_cast<std::size_t>(end_of(each.bytes) - bytes.data()));
  }
  return merged;
}

}  // namespace

LocalMemory::LocalMemory(const PinPlan& plan, Pin pin, std::uint64_t most_regions) noexcept
    : chunk_(plan.chunk),
      pin_(pin),
      most_regions_(most_regions),
      next_chunk_(std::min(kFirstChunk, plan.chunk)),
      budget_(plan.budget) {}

std::vector<Placement> LocalMemory::merged(std::span<const Placement> plan) const {
  // Only what was lent is registered, unless that takes more registrations than a device has.
  std::uint64_t gap = 0;
  std::vector<Placement> ranges = merge(plan, gap);
  while (ranges.size() + chunks_.size() > most_regions_ && gap < chunk_) {
    gap = gap == 0 ? kFirstGap : gap * 4;
    ranges = merge(ranges, gap);
  }
  return ranges;
}

std::vector<LocalChunk*> LocalMemory::add(std::span<const Placement> plan) {
  std::vector<LocalChunk*> added;
  for (const Placement& range : merged(plan)) add_range(range, added);
  return added;
}

void LocalMemory::add_range(const Placement& range, std::vector<LocalChunk*>& added) {
  std::size_t done = 0;
  while (done < range.bytes.size()) {
    const std::byte* const at = range.bytes.data() + done;
    if (const LocalChunk* known = find(at)) {
      done += static_cast<std::size_t>(end_of(known->memory) - at);
      continue;
    }
    const std::size_t size =
        std::min({range.bytes.size() - done, gap_after(at), static_cast<std::size_t>(next_chunk_)});
    next_chunk_ = std::min(next_chunk_ * 2, chunk_);
    auto chunk = std::make_unique<LocalChunk>();
    // Verbs take a pointer to non-const memory whatever the rights; ours are to read.
    chunk->memory = Bytes(const_cast<std::byte*>(at), size);
    chunk->slot = range.slot;
    chunk->offset = range.offset + done;
    chunk->rank = order_.size();
    order_.push_back(chunk.get());
    added.push_back(chunk.get());
    chunks_.emplace(at, std::move(chunk));
    done += size;
  }
}

LocalChunk* LocalMemory::find(const std::byte* at) noexcept {
  auto after = chunks_.upper_bound(at);
  if (after == chunks_.begin()) return nullptr;
  LocalChunk* const chunk = std::prev(after)->second.get();
  return at < end_of(chunk->memory) ? chunk : nullptr;
}

std::size_t LocalMemory::gap_after(const std::byte* at) const noexcept {
  const auto after = chunks_.upper_bound(at);
  return after == chunks_.end() ? std::numeric_limits<std::size_t>::max()
                                : static_cast<std::size_t>(after->first - at);
}

void LocalMemory::touch(LocalChunk& chunk) noexcept {
  chunk.last_use = ++uses_;
  reached_ = std::max(reached_, chunk.rank + 1);
}

LocalChunk* LocalMemory::take_work() {
  LocalChunk* chosen = nullptr;
  while (chosen == nullptr && !promoted_.empty()) {
    if (promoted_.front()->state == LocalChunk::State::waiting) chosen = promoted_.front();
    promoted_.pop_front();
  }
  while (chosen == nullptr && next_ < order_.size()) {
    LocalChunk* const candidate = order_[next_];
    if (candidate->state == LocalChunk::State::waiting) {
      if (pin_ == Pin::demand && (is_over(candidate->memory.size()) || next_ >= reached_ + kAhead))
        return nullptr;
      chosen = candidate;
    }
    ++next_;
  }
  if (chosen == nullptr) return nullptr;
  chosen->state = LocalChunk::State::registering;
  reserved_ += chosen->memory.size();
  return chosen;
}

void LocalMemory::registered(LocalChunk& chunk, std::unique_ptr<PinnedRegion> region) {
  chunk.region = std::move(region);
  chunk.state = LocalChunk::State::ready;
}

void LocalMemory::refused(LocalChunk& chunk) {
  reserved_ -= chunk.memory.size();
  budget_ = std::min(budget_, reserved_);
  chunk.state = reserved_ > 0 ? LocalChunk::State::waiting : LocalChunk::State::gone;
}

std::unique_ptr<PinnedRegion> LocalMemory::evict() {
  LocalChunk* oldest = nullptr;
  // What nobody has asked for yet is about to be: it goes last.
  const auto key = [](const LocalChunk& chunk) {
    return std::tuple(!chunk.sealed, chunk.last_use, chunk.rank);
  };
  for (LocalChunk* chunk : order_) {
    if (chunk->state != LocalChunk::State::ready || chunk->flying > 0) continue;
    if (oldest == nullptr || key(*chunk) < key(*oldest)) oldest = chunk;
  }
  if (oldest == nullptr) return nullptr;
  oldest->state = oldest->sealed ? LocalChunk::State::gone : LocalChunk::State::waiting;
  return std::move(oldest->region);
}

std::vector<std::unique_ptr<PinnedRegion>> LocalMemory::take_all() {
  std::vector<std::unique_ptr<PinnedRegion>> all;
  for (LocalChunk* chunk : order_) {
    if (chunk->region) all.push_back(std::move(chunk->region));
  }
  return all;
}

}  // namespace ramferry::rdma
