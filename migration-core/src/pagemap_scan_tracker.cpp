// SPDX-License-Identifier: MIT
// Write protection that the kernel lifts by itself on the first write, and PAGEMAP_SCAN, which finds the
// pages where it was lifted and puts it back in one step.
//
// The default is the safe one: a page without protection counts as written, so whatever happens to the page
// tables (pages appear, are swapped, split or collapsed) can add pages to a harvest but never hide one.
#include "host_pages.hpp"
#include "kernel_abi.hpp"
#include "memory_map.hpp"
#include "pagemap.hpp"
#include "userfaultfd.hpp"

#include <ramferry/migration/dirty_tracker.hpp>

#include <memory>
#include <utility>
#include <vector>

namespace ramferry::migration {
namespace {

class PagemapScanTracker final : public DirtyTracker {
 public:
  PagemapScanTracker(const RamLayout& layout, Userfaultfd faults, PageScanner scanner)
      : layout_(layout), faults_(std::move(faults)), scanner_(std::move(scanner)), armed_(layout) {}
  ~PagemapScanTracker() override { stop(); }

  Result<> watch_all();

  std::string_view name() const noexcept override { return "pagemap-scan"; }
  Result<> arm(const PageRun& run) override;
  Result<> harvest(DirtySet& into) override;
  void stop() noexcept override;

 private:
  const RamLayout& layout_;
  Userfaultfd faults_;
  PageScanner scanner_;
  ArmedMemory armed_;
  std::vector<PageScanner::Query> written_;  // by block: which pages to look for
  bool stopped_ = false;
};

/// A page of private memory that is not in the page tables was never written, so there is no need to look at
/// it or to protect it: arming and scanning untouched memory is free. Shared memory can leave the page tables
/// after a write.
PageScanner::Query written_pages(const RamBlock& block) {
  return {.all = kernel::kPageIsWritten,
          .none = 0,
          .any = is_private(block.host) ? kernel::kPageIsPresent | kernel::kPageIsSwapped : std::uint64_t{0}};
}

Result<> PagemapScanTracker::watch_all() {
  for (const RamBlock& block : layout_.blocks()) {
    if (auto watched = faults_.watch(block.host); !watched)
      return within(std::move(watched).error(), "tracking RAM block '" + block.name + "'");
    written_.push_back(written_pages(block));
  }
  return {};
}

Result<> PagemapScanTracker::arm(const PageRun& run) {
  if (stopped_) return fail(errc::wrong_state, "arming a tracker that was stopped");
  const Bytes memory = host_pages(layout_, run);
  // As a harvest that nobody reads: asked only to protect, the kernel would protect untouched pages as well.
  RAMFERRY_TRY(scanner_.find_and_protect(memory, written_[run.block], [](Bytes) {}));
  armed_.add(run.block, memory);
  return {};
}

Result<> PagemapScanTracker::harvest(DirtySet& into) {
  for (std::uint32_t block = 0; block < layout_.blocks().size(); ++block)
    for (const Bytes memory : armed_.of(block))
      RAMFERRY_TRY(scanner_.find_and_protect(
          memory, written_[block], [&](Bytes found) { into.mark(pages_of(layout_, block, found)); }));
  return {};
}

void PagemapScanTracker::stop() noexcept {
  if (std::exchange(stopped_, true)) return;
  for (const RamBlock& block : layout_.blocks()) faults_.forget(block.host);
  faults_.close();
  armed_.clear();
}

}  // namespace

Result<std::unique_ptr<DirtyTracker>> make_pagemap_scan_tracker(const RamLayout& layout) {
  RAMFERRY_TRY(check_host_pages(layout));
  RAMFERRY_TRY_ASSIGN(PageScanner scanner, PageScanner::open());
  RAMFERRY_TRY_ASSIGN(Userfaultfd faults,
                      Userfaultfd::open(Userfaultfd::Faults::resolved_by_kernel,
                                        kernel::kWriteProtect | kernel::kWriteProtectShared |
                                            kernel::kWriteProtectUnpopulated | kernel::kWriteProtectAsync));
  auto tracker = std::make_unique<PagemapScanTracker>(layout, std::move(faults), std::move(scanner));
  RAMFERRY_TRY(tracker->watch_all());
  return tracker;
}

}  // namespace ramferry::migration
