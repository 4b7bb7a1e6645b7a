// SPDX-License-Identifier: MIT
// Which pages still differ from the destination. Pure data: no clock, no guest, no I/O; one thread.
#pragma once

#include <ramferry/migration/ram_block.hpp>

#include <cstdint>
#include <optional>
#include <vector>

namespace ramferry::migration {

/// One bit per page of a layout. Counting is constant time; scanning is by 64-page words.
class DirtySet {
 public:
  explicit DirtySet(const RamLayout& layout);

  void mark(const PageRun& run);
  void clear(const PageRun& run);
  void mark_all();
  void clear_all();
  void merge(const DirtySet& newer);
  bool contains(std::uint32_t block, std::uint64_t page) const noexcept;
  std::uint64_t pages() const noexcept { return pages_; }
  bool empty() const noexcept { return pages_ == 0; }

  /// Removes and returns the lowest run at or after (`block`, `page`) of at most `most_pages` pages, leaving
  /// out the pages that `except` contains (they stay in this set: deferred). Nothing if there is none up to
  /// the end.
  std::optional<PageRun> take(std::uint32_t block, std::uint64_t page, std::uint64_t most_pages,
                              const DirtySet* except = nullptr);

  /// The bits of a block, 64 pages a word, lowest bit first.
  std::span<const std::uint64_t> words(std::uint32_t block) const noexcept { return words_[block]; }

 private:
  std::vector<std::vector<std::uint64_t>> words_;
  std::vector<std::uint64_t> block_pages_;
  std::uint64_t pages_ = 0;
};

}  // namespace ramferry::migration
