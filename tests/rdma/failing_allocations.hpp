// SPDX-License-Identifier: MIT
// Allocations that fail when a test says so.
#pragma once

namespace ramferry::test {

/// The calling thread's allocation number `which` from now, 1 being the next, throws std::bad_alloc; 0: none
/// does.
void fail_allocation(unsigned which) noexcept;

}  // namespace ramferry::test
