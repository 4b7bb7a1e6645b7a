// SPDX-License-Identifier: MIT
// Which pages hold nothing but zeros, found at memory speed.
//
// The guest may write to the memory meanwhile: the answer is then that of some moment during the call, and
// the write has marked the page dirty again ("Clear before read" in docs/design-notes.md). Any thread; reads
// each byte at most once, writes nothing. Reading pages that were never touched maps them, and allocates
// those of a memfd: leave them out with touched_runs().
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/migration/ram_block.hpp>

#include <vector>

namespace ramferry::migration {

/// Whether all bytes are zero. Made for whole pages; any size and alignment is right, and no bytes are all
/// zero.
bool is_zero(ConstBytes page) noexcept;

/// Appends the pages of `run` to `zeros` or to `pages`, in order. A run that continues the last one of its
/// list prolongs it. Returns how many pages went to `pages`.
std::uint64_t split_zeros(const RamLayout& layout, const PageRun& run, std::vector<PageRun>& pages,
                          std::vector<PageRun>& zeros);

/// Appends `run`, or prolongs the last one of the list if it continues there.
void append_run(std::vector<PageRun>& runs, const PageRun& run);

}  // namespace ramferry::migration
