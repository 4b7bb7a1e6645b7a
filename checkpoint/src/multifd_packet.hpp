// SPDX-License-Identifier: MIT
// What goes over a channel of QEMU's multifd: packets of up to 128 pages of one RAM block, each behind a head
// of fixed size.
//
//   be32 magic 0x11223344, version 1, flags, room for pages, pages with content, payload bytes
//   be64 packet number; be32 zero pages (QEMU 9.0 on); 28 pad; 256 name of the RAM block
//   128 × be64 offset: those of the pages with content, then those of the zero pages
//
// Seen with QEMU 7.2 and 10.0: where a packet has no pages, its payload length, name and offsets are left
// over from an earlier one, and no payload follows; 7.2 may set SYNC on a packet with pages.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ramferry::checkpoint {

inline constexpr std::size_t kPacketHeadBytes = 1344;
inline constexpr std::size_t kPacketPages = 128;
/// Pages that do not compress grow a little.
inline constexpr std::size_t kMostPayloadBytes = 2 * kPacketPages * kPageBytes;

struct MultifdPacket {
  enum class Compression : std::uint8_t { none, zstd };
  bool sync = false;  ///< the channel then waits until all have come so far
  Compression compression = Compression::none;
  std::uint32_t block = 0;    ///< index; with pages only
  std::uint32_t payload = 0;  ///< bytes that follow the head
  std::uint32_t pages = 0, zero_pages = 0;
  std::array<std::uint64_t, kPacketPages> offsets{};

  std::span<const std::uint64_t> page_offsets() const noexcept { return std::span(offsets).first(pages); }
  std::span<const std::uint64_t> zero_offsets() const noexcept {
    return std::span(offsets).subspan(pages, zero_pages);
  }
};

/// `head` has kPacketHeadBytes. Every block and offset is checked against `blocks`.
Result<MultifdPacket> decode_packet(ConstBytes head, std::span<const BlockInfo> blocks);
/// Appends the head of an uncompressed packet; the pages are to follow it. `number` counts all packets.
void encode_packet(const MultifdPacket& packet, std::string_view block, std::uint64_t number,
                   std::vector<std::byte>& into);

}  // namespace ramferry::checkpoint
