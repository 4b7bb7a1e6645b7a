// SPDX-License-Identifier: MIT
// Trackers that are told: by devices, by a VMM's log, and several trackers as one.
#include <ramferry/migration/dirty_tracker.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::migration {
namespace {

constexpr std::uint64_t kWordBits = 64;

/// The marks of one block.
class AtomicMarks {
 public:
  explicit AtomicMarks(const RamBlock& block)
      : page_bytes_(block.page_bytes),
        bytes_(block.host.size()),
        words_((block.pages() + kWordBits - 1) / kWordBits) {}

  void mark(std::uint64_t offset, std::uint64_t length) noexcept {
    offset = std::min(offset, bytes_);
    length = std::min(length, bytes_ - offset);
    if (length == 0) return;
    const std::uint64_t end = (offset + length - 1) / page_bytes_ + 1;
    for (std::uint64_t page = offset / page_bytes_; page < end;) {
      const std::uint64_t bit = page % kWordBits;
      const std::uint64_t count = std::min(kWordBits - bit, end - page);
      // Whoever takes the mark sees what was written before it.
      words_[page / kWordBits].fetch_or((~std::uint64_t{0} >> (kWordBits - count)) << bit,
                                        std::memory_order_release);
      page += count;
    }
  }

  void take(std::uint32_t block, DirtySet& into) noexcept {
    for (std::size_t at = 0; at < words_.size(); ++at) {
      if (words_[at].load(std::memory_order_relaxed) == 0) continue;
      std::uint64_t word = words_[at].exchange(0, std::memory_order_acquire);
      while (word != 0) {
        const auto bit = static_cast<std::uint64_t>(std::countr_zero(word));
        const auto count = static_cast<std::uint64_t>(std::countr_one(word >> bit));
        into.mark({block, at * kWordBits + bit, count});
        word &= ~((~std::uint64_t{0} >> (kWordBits - count)) << bit);
      }
    }
  }

 private:
  std::uint64_t page_bytes_, bytes_;
  std::vector<std::atomic<std::uint64_t>> words_;
};

class VmmLogTracker final : public DirtyTracker {
 public:
  explicit VmmLogTracker(VmmLog log) : log_(std::move(log)) {}
  ~VmmLogTracker() override { stop(); }
  std::string_view name() const noexcept override { return "vmm-log"; }
  Result<> arm(const PageRun& run) override { return log_.arm(run); }
  Result<> harvest(DirtySet& into) override { return log_.harvest(into); }
  void stop() noexcept override {
    if (auto stop = std::exchange(log_.stop, nullptr)) stop();
  }

 private:
  VmmLog log_;
};

class MergedTracker final : public DirtyTracker {
 public:
  explicit MergedTracker(std::vector<DirtyTracker*> parts) : parts_(std::move(parts)) {
    for (const DirtyTracker* part : parts_) name_.append(name_.empty() ? "" : "+").append(part->name());
  }
  ~MergedTracker() override { stop(); }
  std::string_view name() const noexcept override { return name_; }
  Result<> arm(const PageRun& run) override {
    for (DirtyTracker* part : parts_) RAMFERRY_TRY(part->arm(run));
    return {};
  }
  Result<> harvest(DirtySet& into) override {
    for (DirtyTracker* part : parts_) RAMFERRY_TRY(part->harvest(into));
    return {};
  }
  void stop() noexcept override {
    for (DirtyTracker* part : parts_) part->stop();
  }

 private:
  std::vector<DirtyTracker*> parts_;
  std::string name_;
};

}  // namespace

struct MarkedWrites::State {
  std::vector<AtomicMarks> blocks;
};

MarkedWrites::MarkedWrites(const RamLayout& layout) : state_(std::make_unique<State>()) {
  state_->blocks.reserve(layout.blocks().size());
  for (const RamBlock& block : layout.blocks()) state_->blocks.emplace_back(block);
}

MarkedWrites::~MarkedWrites() = default;

void MarkedWrites::mark(std::uint32_t block, std::uint64_t offset, std::uint64_t length) noexcept {
  if (block < state_->blocks.size()) state_->blocks[block].mark(offset, length);
}

Result<> MarkedWrites::arm(const PageRun& /*run*/) {
  return {};
}

Result<> MarkedWrites::harvest(DirtySet& into) {
  for (std::uint32_t block = 0; block < state_->blocks.size(); ++block)
    state_->blocks[block].take(block, into);
  return {};
}

void MarkedWrites::stop() noexcept {}

std::unique_ptr<DirtyTracker> make_vmm_log_tracker(VmmLog log) {
  return std::make_unique<VmmLogTracker>(std::move(log));
}

std::unique_ptr<DirtyTracker> merge_trackers(std::vector<DirtyTracker*> parts) {
  return std::make_unique<MergedTracker>(std::move(parts));
}

}  // namespace ramferry::migration
