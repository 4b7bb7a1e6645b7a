// SPDX-License-Identifier: MIT
#include <ramferry/migration/page_planner.hpp>
#include <ramferry/migration/zero_page.hpp>

#include <algorithm>

namespace ramferry::migration {
namespace {

/// How many budgets' worth of memory one batch may look at when it finds zero pages. Keeps a batch from
/// scanning all of an empty guest before anyone gets to cancel.
constexpr std::uint64_t kMostLookedAt = 8;

}  // namespace

PagePlanner::PagePlanner(const RamLayout& layout, ZeroPages zero_pages)
    : layout_(layout), zero_pages_(zero_pages) {
  for (const RamBlock& block : layout.blocks()) largest_page_ = std::max(largest_page_, block.page_bytes);
}

PageBatch PagePlanner::next(DirtySet& dirty, const DirtySet& outstanding, std::uint64_t most_bytes) {
  PageBatch batch;
  const std::uint64_t budget = std::max(most_bytes, largest_page_);
  std::uint64_t looked_at = 0;
  // Counting by the largest page keeps the budget in layouts that mix page sizes.
  while (budget - batch.bytes >= largest_page_ && looked_at / kMostLookedAt < budget) {
    const auto run = dirty.take(block_, page_, (budget - batch.bytes) / largest_page_, &outstanding);
    if (!run) {
      // The end is told by a batch of its own, an empty one.
      block_ = batch.empty() ? 0 : static_cast<std::uint32_t>(layout_.blocks().size());
      page_ = 0;
      break;
    }
    block_ = run->block;
    page_ = run->first + run->count;
    looked_at += layout_.bytes(*run);
    batch.bytes += add(batch, *run);
  }
  return batch;
}

std::uint64_t PagePlanner::add(PageBatch& batch, const PageRun& run) const {
  if (zero_pages_ == ZeroPages::detect)
    return split_zeros(layout_, run, batch.pages, batch.zeros) * layout_[run.block].page_bytes;
  append_run(batch.pages, run);
  return layout_.bytes(run);
}

}  // namespace ramferry::migration
