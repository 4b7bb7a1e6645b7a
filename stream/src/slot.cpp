// SPDX-License-Identifier: MIT
#include <ramferry/slot.hpp>
#include <ramferry/zero_scan.hpp>

#include <algorithm>
#include <cstring>
#include <mutex>

namespace ramferry {
namespace {

constexpr std::uint64_t kGranule = 4096;  // resolution of "may have been written"
constexpr std::uint64_t kGranulesPerWord = 64;

}  // namespace

Result<> Landing::store(std::uint64_t /*offset*/, std::uint64_t /*length*/, Encoding encoding,
                        ConstBytes /*bytes*/) {
  return fail(errc::unsupported, "storing a placement with encoding " + std::to_string(encoding));
}

MemoryLanding::MemoryLanding(Bytes memory, Content content) : memory_(memory) {
  if (content == Content::blank) {
    const std::uint64_t granules = (memory.size() + kGranule - 1) / kGranule;
    written_ = std::vector<std::atomic<std::uint64_t>>((granules + kGranulesPerWord - 1) / kGranulesPerWord);
  }
}

Bytes MemoryLanding::window(std::uint64_t offset, std::uint64_t length) noexcept {
  return memory_.subspan(offset, length);
}

void MemoryLanding::note_written(std::uint64_t offset, std::uint64_t length) noexcept {
  if (written_.empty() || length == 0) return;
  const std::uint64_t end = (offset + length - 1) / kGranule + 1;
  for (std::uint64_t at = offset / kGranule; at < end;) {
    const std::uint64_t bit = at % kGranulesPerWord;
    const std::uint64_t count = std::min(kGranulesPerWord - bit, end - at);
    const std::uint64_t mask = (count == kGranulesPerWord ? ~0ULL : (1ULL << count) - 1) << bit;
    std::atomic<std::uint64_t>& word = written_[at / kGranulesPerWord];
    if ((word.load(std::memory_order_relaxed) & mask) != mask) word.fetch_or(mask, std::memory_order_relaxed);
    at += count;
  }
}

bool MemoryLanding::written(std::uint64_t granule) const noexcept {
  return written_.empty() || (written_[granule / kGranulesPerWord].load(std::memory_order_relaxed) >>
                                  (granule % kGranulesPerWord) &
                              1);
}

Result<> MemoryLanding::zero(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const std::uint64_t granule = offset / kGranule;
    const std::uint64_t next = std::min(end, (granule + 1) * kGranule);
    // Looking first keeps pages that are zero already from being dirtied or allocated.
    if (written(granule)) {
      const Bytes piece = memory_.subspan(offset, next - offset);
      if (!is_zero(piece)) std::memset(piece.data(), 0, piece.size());
    }
    offset = next;
  }
  return {};
}

Result<> SlotTable::add(SlotId slot, Landing& landing) {
  const std::string number = std::to_string(static_cast<std::uint32_t>(slot));
  const std::unique_lock lock(mutex_);
  if (revoked_) return fail(errc::wrong_state, "exposing slot " + number + ": the slots were revoked");
  if (!slots_.emplace(slot, &landing).second) return fail(errc::in_use, "exposing slot " + number);
  return {};
}

Result<Landing*> SlotTable::find(SlotId slot, std::uint64_t offset, std::uint64_t length) const {
  const std::shared_lock lock(mutex_);
  const auto found = slots_.find(slot);
  const auto number = [&] { return std::to_string(static_cast<std::uint32_t>(slot)); };
  if (found == slots_.end())
    return fail(errc::protocol_mismatch, "checking a placement: slot " + number() + " is not exposed");
  const std::uint64_t size = found->second->size();
  if (offset > size || length > size - offset)
    return fail(errc::protocol_mismatch, "checking a placement: " + std::to_string(length) + " bytes at " +
                                             std::to_string(offset) + " do not fit slot " + number() +
                                             " of " + std::to_string(size) + " bytes");
  return found->second;
}

void SlotTable::revoke() noexcept {
  const std::unique_lock lock(mutex_);
  revoked_ = true;
  slots_.clear();
}

}  // namespace ramferry
