// SPDX-License-Identifier: MIT
// What touched_runs() leaves open for tests: older kernels on a newer one.
#pragma once

#include <ramferry/migration/dirty_tracker.hpp>

#include <vector>

namespace ramferry::migration {

/// As touched_runs(), with PAGEMAP_SCAN only if it may.
std::vector<PageRun> touched_runs_with(const RamLayout& layout, const PageRun& within, bool may_scan);

}  // namespace ramferry::migration
