// SPDX-License-Identifier: MIT
// Which pages hold nothing but zeros: runs of them, by the scan of <ramferry/zero_scan.hpp>, whose promises
// hold here. Leave pages that were never touched out with touched_runs(): reading would allocate those of a
// memfd.
#pragma once

#include <ramferry/migration/ram_block.hpp>

#include <vector>

namespace ramferry::migration {

/// Appends the pages of `run` to `zeros` or to `pages`, in order. A run that continues the last one of its
/// list prolongs it. Returns how many pages went to `pages`.
std::uint64_t split_zeros(const RamLayout& layout, const PageRun& run, std::vector<PageRun>& pages,
                          std::vector<PageRun>& zeros);

/// Appends `run`, or prolongs the last one of the list if it continues there.
void append_run(std::vector<PageRun>& runs, const PageRun& run);

}  // namespace ramferry::migration
