// SPDX-License-Identifier: MIT
// What every page of the reference VM must hold: its kind and generation, 4 bytes a page.
#pragma once

#include <ramferry/migration/ram_block.hpp>

#include <atomic>
#include <cstdint>
#include <vector>

namespace ramferry::vm {

enum class PageKind : std::uint8_t {
  untouched = 0,  ///< nobody ever wrote it
  zero = 1,       ///< written, and zero now
  stamped = 2,    ///< content with a stamp (page_stamp.hpp)
};

struct PageEntry {
  PageKind kind = PageKind::untouched;
  std::uint32_t generation = 0;  ///< of 30 bits; grows with each change of the page
  bool operator==(const PageEntry&) const = default;
};
inline constexpr std::uint32_t kMostGeneration = (std::uint32_t{1} << 30) - 1;

constexpr std::uint32_t pack(PageEntry entry) noexcept {
  return static_cast<std::uint32_t>(entry.kind) << 30 | entry.generation;
}
constexpr PageEntry unpack(std::uint32_t word) noexcept {
  return {.kind = static_cast<PageKind>(word >> 30), .generation = word & kMostGeneration};
}
/// Kind 3 does not exist.
constexpr bool is_page_entry(std::uint32_t word) noexcept {
  return word >> 30 <= 2;
}

/// Any thread; one writer per page at a time. Remembers which entries changed, so that a live section can
/// send them while the VM runs: like a dirty tracker, a change mark is taken before its entry is read.
class PageTable {
 public:
  explicit PageTable(const migration::RamLayout& layout);

  PageEntry get(std::uint32_t block, std::uint64_t page) const noexcept {
    return unpack(blocks_[block].entries[page].load(std::memory_order_relaxed));
  }
  void set(std::uint32_t block, std::uint64_t page, PageEntry entry) noexcept {
    Block& table = blocks_[block];
    table.entries[page].store(pack(entry), std::memory_order_relaxed);
    table.mark(page / 64, std::uint64_t{1} << page % 64);
  }

  /// The same entry for `count` pages: for tables of millions.
  void fill(std::uint32_t block, std::uint64_t first, std::uint64_t count, PageEntry entry) noexcept;

  std::size_t blocks() const noexcept { return blocks_.size(); }
  std::uint64_t pages(std::uint32_t block) const noexcept { return blocks_[block].entries.size(); }
  std::uint64_t pages() const noexcept { return pages_; }
  /// Which block and page the `number`th of all pages is.
  migration::PageRun locate(std::uint64_t number) const noexcept;

  /// All are untouched again, as in a new table.
  void clear() noexcept;
  /// As if every entry that was ever set had just been set. Does not look at the entries: a table of millions
  /// of untouched pages costs microseconds.
  void mark_touched() noexcept;
  std::uint64_t changed() const noexcept;
  /// The change marks of pages [64 × word, 64 × word + 64), which it clears.
  std::uint64_t take_changed(std::uint32_t block, std::uint64_t word) noexcept {
    auto& marks = blocks_[block].changed[word];
    if (marks.load(std::memory_order_relaxed) == 0) return 0;
    return marks.exchange(0, std::memory_order_acquire);
  }
  std::uint64_t words(std::uint32_t block) const noexcept { return blocks_[block].changed.size(); }

 private:
  struct Block {
    std::vector<std::atomic<std::uint32_t>> entries;
    std::vector<std::atomic<std::uint64_t>> changed, touched;  // a bit a page; touched: ever set

    void mark(std::uint64_t word, std::uint64_t marks) noexcept {
      if ((touched[word].load(std::memory_order_relaxed) & marks) != marks)
        touched[word].fetch_or(marks, std::memory_order_relaxed);
      changed[word].fetch_or(marks, std::memory_order_release);
    }
  };
  std::vector<Block> blocks_;
  std::uint64_t pages_ = 0;
};

}  // namespace ramferry::vm
