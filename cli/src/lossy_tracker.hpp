// SPDX-License-Identifier: MIT
// For tests: a dirty tracker with a bug. Whoever checks what was migrated must notice it.
#pragma once

#include <ramferry/migration/dirty_tracker.hpp>

#include <memory>

namespace ramferry::cli {

/// Like `tracker`, but one page that it found dirty is never told. `layout` outlives it.
std::unique_ptr<migration::DirtyTracker> lose_one_mark(std::unique_ptr<migration::DirtyTracker> tracker,
                                                       const migration::RamLayout& layout);

}  // namespace ramferry::cli
