// SPDX-License-Identifier: MIT
#include "vm/page_table.hpp"

#include <bit>

namespace ramferry::vm {

PageTable::PageTable(const migration::RamLayout& layout) : pages_(layout.pages()) {
  blocks_.reserve(layout.blocks().size());
  for (const migration::RamBlock& block : layout.blocks()) {
    blocks_.push_back({.entries = std::vector<std::atomic<std::uint32_t>>(block.pages()),
                       .changed = std::vector<std::atomic<std::uint64_t>>((block.pages() + 63) / 64)});
  }
}

migration::PageRun PageTable::locate(std::uint64_t number) const noexcept {
  std::uint32_t block = 0;
  while (number >= pages(block)) number -= pages(block++);
  return {.block = block, .first = number, .count = 1};
}

void PageTable::mark_all_changed() noexcept {
  for (Block& block : blocks_) {
    for (auto& word : block.changed) word.store(~std::uint64_t{0}, std::memory_order_relaxed);
    const std::uint64_t rest = block.entries.size() % 64;
    if (rest != 0) block.changed.back().store((std::uint64_t{1} << rest) - 1, std::memory_order_relaxed);
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
