// SPDX-License-Identifier: MIT
#include "checksum_wide.hpp"
#include "file_io.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace ramferry::checkpoint {

std::uint64_t checksum(ConstBytes bytes) noexcept {
#if defined(__x86_64__)
  static const bool wide = __builtin_cpu_supports("avx2") != 0;
  if (wide) return checksum_avx2(bytes.data(), bytes.size());
#endif
  return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace ramferry::checkpoint
