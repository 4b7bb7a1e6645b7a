// SPDX-License-Identifier: MIT
#include <ramferry/migration/zero_page.hpp>
#include <ramferry/zero_scan.hpp>

#include <cstdint>

namespace ramferry::migration {
namespace {

/// A page that is not zero is left at once: the first line of this later one is fetched meanwhile.
constexpr std::uint64_t kPagesAhead = 4;

}  // namespace

void append_run(std::vector<PageRun>& runs, const PageRun& run) {
  if (!runs.empty() && runs.back().block == run.block && runs.back().first + runs.back().count == run.first)
    runs.back().count += run.count;
  else
    runs.push_back(run);
}

std::uint64_t split_zeros(const RamLayout& layout, const PageRun& run, std::vector<PageRun>& pages,
                          std::vector<PageRun>& zeros) {
  const std::uint64_t page_bytes = layout[run.block].page_bytes;
  const ConstBytes memory = layout.memory(run);
  const auto page_at = [&](std::uint64_t page) { return memory.subspan(page * page_bytes, page_bytes); };
  const auto zero_at = [&](std::uint64_t page) {
    const bool zero = is_zero(page_at(page));
    if (!zero && page + kPagesAhead < run.count) __builtin_prefetch(page_at(page + kPagesAhead).data());
    return zero;
  };
  std::uint64_t not_zero = 0;
  bool zero = run.count > 0 && zero_at(0);
  for (std::uint64_t first = 0, page = 1; page <= run.count; ++page) {
    const bool next = page < run.count ? zero_at(page) : !zero;
    if (next == zero) continue;
    append_run(zero ? zeros : pages, {run.block, run.first + first, page - first});
    if (!zero) not_zero += page - first;
    first = page;
    zero = next;
  }
  return not_zero;
}

}  // namespace ramferry::migration
