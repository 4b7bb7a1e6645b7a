// SPDX-License-Identifier: MIT
#include "lossy_tracker.hpp"

#include <optional>
#include <utility>

namespace ramferry::cli {
namespace {

using migration::DirtySet;
using migration::PageRun;

class LossyTracker final : public migration::DirtyTracker {
 public:
  LossyTracker(std::unique_ptr<DirtyTracker> tracker, const migration::RamLayout& layout)
      : tracker_(std::move(tracker)), layout_(layout), seen_(layout) {}

  std::string_view name() const noexcept override { return tracker_->name(); }
  Result<> arm(const PageRun& run) override { return tracker_->arm(run); }
  Result<> harvest(DirtySet& into) override {
    DirtySet found(layout_);
    RAMFERRY_TRY(tracker_->harvest(found));
    // A page that is dirty for the first time in a later harvest was sent in round one, before it was written
    // to: with its marks lost for good, the write never reaches the destination. A page of the first harvest
    // may have been written to before it was sent, and prove nothing.
    if (!lost_ && harvests_ > 0) lost_ = first_dirtied_in(found);
    ++harvests_;
    seen_.merge(found);
    if (lost_) found.clear(*lost_);
    into.merge(found);
    return {};
  }
  void stop() noexcept override { tracker_->stop(); }

 private:
  std::optional<PageRun> first_dirtied_in(const DirtySet& found) const {
    const auto pages = layout_[0].pages();
    for (std::uint64_t page = 0; page < pages; ++page) {
      if (found.contains(0, page) && !seen_.contains(0, page))
        return PageRun{.block = 0, .first = page, .count = 1};
    }
    return std::nullopt;
  }

  std::unique_ptr<DirtyTracker> tracker_;
  const migration::RamLayout& layout_;
  DirtySet seen_;  ///< what any harvest has found
  int harvests_ = 0;
  std::optional<PageRun> lost_;
};

}  // namespace

std::unique_ptr<migration::DirtyTracker> lose_one_mark(std::unique_ptr<migration::DirtyTracker> tracker,
                                                       const migration::RamLayout& layout) {
  return std::make_unique<LossyTracker>(std::move(tracker), layout);
}

}  // namespace ramferry::cli
