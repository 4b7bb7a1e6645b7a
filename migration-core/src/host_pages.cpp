// SPDX-License-Identifier: MIT
#include "host_pages.hpp"

#include <unistd.h>

#include <algorithm>
#include <string>

namespace ramferry::migration {
namespace {

const std::byte* end_of(Bytes memory) noexcept {
  return memory.data() + memory.size();
}

}  // namespace

std::uint64_t host_page_bytes(const RamBlock& block) noexcept {
  return std::max(block.backing.page_bytes, static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
}

Result<> check_host_pages(const RamLayout& layout) {
  for (const RamBlock& block : layout.blocks()) {
    const std::uint64_t page = host_page_bytes(block);
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast)
    if (reinterpret_cast<std::uintptr_t>(block.host.data()) % page != 0 || block.host.size() % page != 0)
      return fail(errc::invalid_argument, "tracking RAM block '" + block.name +
                                              "': it does not consist of whole pages of " +
                                              std::to_string(page) + " bytes");
  }
  return {};
}

Bytes host_pages(const RamLayout& layout, const PageRun& run) noexcept {
  const RamBlock& block = layout[run.block];
  const std::uint64_t page = host_page_bytes(block);
  const std::uint64_t begin = run.first * block.page_bytes / page * page;
  const std::uint64_t end = ((run.first + run.count) * block.page_bytes + page - 1) / page * page;
  return block.host.subspan(begin, end - begin);
}

PageRun pages_of(const RamLayout& layout, std::uint32_t block, Bytes memory) noexcept {
  const std::uint64_t page = layout[block].page_bytes;
  const auto begin = static_cast<std::uint64_t>(memory.data() - layout[block].host.data());
  const std::uint64_t first = begin / page;
  return {block, first, (begin + memory.size() + page - 1) / page - first};
}

void ArmedMemory::add(std::uint32_t block, Bytes memory) {
  std::vector<Bytes>& ranges = ranges_[block];
  // Everything that overlaps or touches the new range becomes part of it.
  const auto first = std::partition_point(ranges.begin(), ranges.end(),
                                          [&](Bytes range) { return end_of(range) < memory.data(); });
  const auto last =
      std::partition_point(first, ranges.end(), [&](Bytes range) { return range.data() <= end_of(memory); });
  if (first != last) {
    std::byte* const begin = std::min(memory.data(), first->data());
    memory = Bytes(begin, static_cast<std::size_t>(std::max(end_of(memory), end_of(*(last - 1))) - begin));
  }
  ranges.insert(ranges.erase(first, last), memory);
}

bool ArmedMemory::contains(std::uint32_t block, Bytes memory) const noexcept {
  const std::vector<Bytes>& ranges = ranges_[block];
  const auto range = std::partition_point(ranges.begin(), ranges.end(),
                                          [&](Bytes other) { return end_of(other) < end_of(memory); });
  return range != ranges.end() && range->data() <= memory.data();
}

void ArmedMemory::clear() noexcept {
  for (std::vector<Bytes>& ranges : ranges_) ranges.clear();
}

}  // namespace ramferry::migration
