// SPDX-License-Identifier: MIT
// Words of QEMU's RAM section, version 4: a be64 whose low bits say what follows, the rest an offset or a
// total.
#pragma once

#include <cstdint>

namespace ramferry::migration::ram_wire {

inline constexpr std::uint64_t kZero = 0x02;       ///< one fill byte
inline constexpr std::uint64_t kMemSize = 0x04;    ///< the list of blocks
inline constexpr std::uint64_t kPage = 0x08;       ///< one page of bytes
inline constexpr std::uint64_t kEnd = 0x10;        ///< end of this part
inline constexpr std::uint64_t kContinue = 0x20;   ///< the block of the record before; else its name follows
inline constexpr std::uint64_t kXbzrle = 0x40;     ///< u8 1, be16 length, changes to the page as it is there
inline constexpr std::uint64_t kHook = 0x80;       ///< RAM goes past the stream here
inline constexpr std::uint64_t kCompress = 0x100;  ///< be32 length, a zlib stream of one page
inline constexpr std::uint64_t kMultifdFlush = 0x200;  ///< the channels of multifd come together here
inline constexpr std::uint64_t kFlagMask = 0xfff;

}  // namespace ramferry::migration::ram_wire
