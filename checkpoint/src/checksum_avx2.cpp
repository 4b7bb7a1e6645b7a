// SPDX-License-Identifier: MIT
// Compiled with -mavx2: see checksum_wide.hpp.
#include "checksum_wide.hpp"

#if defined(__AVX2__)
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t ramferry::checkpoint::checksum_avx2(const void* bytes, size_t count) noexcept {
  return XXH3_64bits(bytes, count);
}
#endif
