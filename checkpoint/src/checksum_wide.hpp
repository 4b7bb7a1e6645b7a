// SPDX-License-Identifier: MIT
// checksum() once more, for wider registers. The file behind it is compiled for them, so nothing that another
// file could share may be included there.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace ramferry::checkpoint {

/// x86-64 only, and only where the CPU has AVX2.
uint64_t checksum_avx2(const void* bytes, size_t count) noexcept;

}  // namespace ramferry::checkpoint
