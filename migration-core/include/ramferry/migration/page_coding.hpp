// SPDX-License-Identifier: MIT
// How the RAM section may send pages other than as they are.
#pragma once

#include <cstdint>

namespace ramferry::migration {

enum class CompressMethod : std::uint8_t { zlib, zstd };

struct PageCoding {
  bool xbzrle = false;  ///< from the second round on, changes to what was sent before
  std::uint64_t cache_bytes = 64ULL << 20;
  bool compress = false;  ///< pages in full are compressed; with xbzrle, in the first round only
  CompressMethod method = CompressMethod::zlib;
  int level = 1;                    ///< 0 = stored
  unsigned threads = 8;             ///< that compress
  unsigned decompress_threads = 2;  ///< at the destination
};

}  // namespace ramferry::migration
