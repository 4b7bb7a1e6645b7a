// SPDX-License-Identifier: MIT
#include "vm/page_table.hpp"

#include <algorithm>
#include <bit>

namespace ramferry::vm {

PageTable::PageTable(const migration::RamLayout& layout) : pages_(layout.pages()) {
  blocks_.reserve(layout.blocks().size());
  for (const migration::RamBlock& block : layout.blocks()) {
    const std::uint64_t words = (block.pages() + 63) / 64;
    blocks_.push_back({.entries = std::vector<std::atomic<std::uint32_t>>(block.pages()),
                       .changed = std::vector<std::atomic<std::uint64_t>>(words),
                       .touched = std::vector<std::atomic<std::uint64_t>>(words)});
  }
}

migration::PageRun PageTable::locate(std::uint64_t number) const noexcept {
  std::uint32_t block = 0;
  while (number >= pages(block)) number -= pages(block++);
  return {.block = block, .first = number, .count = 1};
}

void PageTable::fill(std::uint32_t block, std::uint64_t first, std::uint64_t count,
                     PageEntry entry) noexcept {
  Block& table = blocks_[block];
  const std::uint32_t word = pack(entry);
  const std::uint64_t end = first + count;
  for (std::uint64_t page = first; page < end; ++page)
    table.entries[page].store(word, std::memory_order_relaxed);
  for (std::uint64_t page = first; page < end;) {
    const std::uint64_t bit = page % 64, bits = std::min(64 - bit, end - page);
    table.mark(page / 64, ~std::uint64_t{0} >> (64 - bits) << bit);
    page += bits;
  }
}

void PageTable::clear() noexcept {
  for (Block& block : blocks_) {
    for (auto& entry : block.entries) entry.store(0, std::memory_order_relaxed);
    for (auto& word : block.touched) word.store(0, std::memory_order_relaxed);
  }
}

void PageTable::mark_touched() noexcept {
  for (Block& block : blocks_) {
    for (std::uint64_t word = 0; word < block.touched.size(); ++word) {
      // An entry that is set behind our back is marked by who sets it.
      if (const std::uint64_t marks = block.touched[word].load(std::memory_order_relaxed); marks != 0)
        block.changed[word].fetch_or(marks, std::memory_order_release);
    }
  }
}

std::uint64_t PageTable::changed() const noexcept {
  std::uint64_t count = 0;
  for (const Block& block : blocks_) {
    for (const auto& word : block.changed)
      count += static_cast<std::uint64_t>(std::popcount(word.load(std::memory_order_relaxed)));
  }
  return count;
}

}  // namespace ramferry::vm
