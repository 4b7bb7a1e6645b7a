// SPDX-License-Identifier: MIT
// Between target pages, which migration counts in, and host pages, which the kernel protects. Either may be
// larger.
#pragma once

#include <ramferry/migration/ram_block.hpp>

#include <span>
#include <vector>

namespace ramferry::migration {

/// The pages of the block's mapping.
std::uint64_t host_page_bytes(const RamBlock& block) noexcept;
/// errc::invalid_argument unless each block consists of whole host pages.
Result<> check_host_pages(const RamLayout& layout);

/// The memory of `run`, rounded out to host pages.
Bytes host_pages(const RamLayout& layout, const PageRun& run) noexcept;
/// The pages that `memory`, part of the block, reaches into.
PageRun pages_of(const RamLayout& layout, std::uint32_t block, Bytes memory) noexcept;

/// The memory that a tracker was told to watch, by block: disjoint ranges, lowest first.
class ArmedMemory {
 public:
  explicit ArmedMemory(const RamLayout& layout) : ranges_(layout.blocks().size()) {}
  void add(std::uint32_t block, Bytes memory);
  std::span<const Bytes> of(std::uint32_t block) const noexcept { return ranges_[block]; }
  bool contains(std::uint32_t block, Bytes memory) const noexcept;
  void clear() noexcept;

 private:
  std::vector<std::vector<Bytes>> ranges_;
};

}  // namespace ramferry::migration
