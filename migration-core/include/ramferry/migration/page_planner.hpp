// SPDX-License-Identifier: MIT
// Turns dirty pages into batches for a page sink: in memory order, adjacent pages joined, zero pages set
// apart.
//
// One thread. Pages are looked at here and read again by whoever sends them; both after harvest cleared their
// marks
// ("Clear before read" in docs/design-notes.md).
#pragma once

#include <ramferry/migration/dirty_set.hpp>
#include <ramferry/migration/ram_block.hpp>

#include <cstdint>
#include <vector>

namespace ramferry::migration {

/// What to send next. Runs are in memory order, and no two of a list touch.
struct PageBatch {
  std::vector<PageRun> pages;  ///< to be sent in full
  std::vector<PageRun> zeros;  ///< hold nothing but zeros
  std::uint64_t bytes = 0;     ///< of `pages`

  bool empty() const noexcept { return pages.empty() && zeros.empty(); }
};

class PagePlanner {
 public:
  enum class ZeroPages : std::uint8_t {
    detect,
    ignore,  ///< nothing is looked at: all pages are sent in full
  };
  /// Borrows `layout`.
  explicit PagePlanner(const RamLayout& layout, ZeroPages zero_pages = ZeroPages::detect);

  /// Moves pages out of `dirty`, from where the last batch ended towards the end of memory, leaving those
  /// that are outstanding. At most `most_bytes` to be sent in full, yet at least one page; zero pages come on
  /// top, within reason. An empty batch: the end was reached, and the next one begins at the start again.
  /// That is one round; what is dirty then was deferred, or marked behind the cursor.
  PageBatch next(DirtySet& dirty, const DirtySet& outstanding, std::uint64_t most_bytes);

 private:
  /// Returns the bytes to be sent in full.
  std::uint64_t add(PageBatch& batch, const PageRun& run) const;

  const RamLayout& layout_;
  ZeroPages zero_pages_;
  std::uint64_t largest_page_ = 1;
  std::uint32_t block_ = 0;  // the cursor: where the next batch begins
  std::uint64_t page_ = 0;
};

}  // namespace ramferry::migration
