// SPDX-License-Identifier: MIT
// The loops behind is_zero(), one per instruction set, so that each can be tested and measured by itself.
//
// All loads are volatile: a guest may write to the bytes meanwhile, and the compiler must neither load a byte
// again nor assume that two loads agree. ThreadSanitizer is told to look away by name, for invariant 1 only.
#pragma once

#include <ramferry/bytes.hpp>

#define RAMFERRY_READS_GUEST_MEMORY __attribute__((no_sanitize("thread")))

namespace ramferry {

using ZeroScan = bool (*)(ConstBytes) noexcept;

bool scan_portable(ConstBytes bytes) noexcept;
/// Only where the CPU has it: nullptr elsewhere.
ZeroScan scan_avx2() noexcept;
/// The fastest that this CPU runs.
ZeroScan best_zero_scan() noexcept;

}  // namespace ramferry
