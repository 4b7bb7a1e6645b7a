// SPDX-License-Identifier: MIT
#include "multifd_packet.hpp"

#include <algorithm>
#include <string>

namespace ramferry::checkpoint {
namespace {

constexpr std::uint32_t kMagic = 0x11223344, kVersion = 1;
constexpr std::size_t kPad = 28, kNameBytes = 256;
constexpr std::uint32_t kSync = 0x01, kCompressionMask = 0x3e, kZlib = 1 << 1, kZstd = 2 << 1;

Failure malformed(const std::string& what) {
  return fail(errc::protocol_mismatch, "a multifd packet " + what);
}

Result<MultifdPacket::Compression> compression(std::uint32_t flags) {
  const std::uint32_t method = flags & kCompressionMask;
  if ((flags & ~(kSync | kCompressionMask)) != 0)
    return fail(errc::unsupported, "a multifd packet with the flags " + std::to_string(flags),
                "switch off what sends device state through multifd");
  if (method == 0) return MultifdPacket::Compression::none;
  if (method == kZstd) return MultifdPacket::Compression::zstd;
  return fail(errc::unsupported,
              method == kZlib ? std::string("multifd with zlib")
                              : "multifd with compression method " + std::to_string(method >> 1),
              "set the source's multifd-compression to none or zstd");
}

Result<std::uint32_t> find_block(ConstBytes name, std::span<const BlockInfo> blocks) {
  const auto end = std::find(name.begin(), name.end(), std::byte{0});
  if (end == name.end()) return malformed("whose block name has no end");
  const std::string_view text(reinterpret_cast<const char*>(name.data()),
                              static_cast<std::size_t>(end - name.begin()));
  const auto found =
      std::find_if(blocks.begin(), blocks.end(), [&](const BlockInfo& each) { return each.name == text; });
  if (found == blocks.end()) return malformed("of the unknown RAM block '" + std::string(text) + "'");
  return static_cast<std::uint32_t>(found - blocks.begin());
}

Result<> check_offsets(std::span<const std::uint64_t> offsets, const BlockInfo& block) {
  for (const std::uint64_t offset : offsets) {
    if (offset % kPageBytes == 0 && offset < block.bytes) continue;
    return malformed("with a page at " + std::to_string(offset) + " of block '" + block.name +
                     "', which has " + std::to_string(block.bytes) + " bytes");
  }
  return {};
}

}  // namespace

Result<MultifdPacket> decode_packet(ConstBytes head, std::span<const BlockInfo> blocks) {
  WireReader in(head);
  const std::uint32_t magic = in.u32(), version = in.u32(), flags = in.u32();
  in.u32();  // how many pages fit: the sender's own business, and 0 in newer packets without pages
  MultifdPacket packet;
  packet.pages = in.u32();
  const std::uint32_t payload = in.u32();
  in.u64();  // the packet's number: not in order across channels
  packet.zero_pages = in.u32();
  in.raw(kPad);
  const ConstBytes name = in.raw(kNameBytes);
  for (std::uint64_t& offset : packet.offsets) offset = in.u64();
  RAMFERRY_TRY(in.finish("the head of a multifd packet"));
  if (magic != kMagic) return malformed("that does not begin like one");
  if (version != kVersion)
    return fail(errc::unsupported, "version " + std::to_string(version) + " of QEMU's multifd");
  if (packet.pages > kPacketPages || packet.zero_pages > kPacketPages - packet.pages)
    return malformed("of " + std::to_string(packet.pages) + " and " + std::to_string(packet.zero_pages) +
                     " pages");
  packet.sync = (flags & kSync) != 0;
  if (packet.pages == 0 && packet.zero_pages == 0) return packet;  // the rest is left over from another
  RAMFERRY_TRY_ASSIGN(packet.compression, compression(flags));
  RAMFERRY_TRY_ASSIGN(packet.block, find_block(name, blocks));
  RAMFERRY_TRY(
      check_offsets(std::span(packet.offsets).first(packet.pages + packet.zero_pages), blocks[packet.block]));
  if (packet.pages == 0) return packet;
  const bool plain = packet.compression == MultifdPacket::Compression::none;
  if (payload > kMostPayloadBytes || payload == 0 || (plain && payload != packet.pages * kPageBytes))
    return malformed("whose " + std::to_string(packet.pages) + " pages take " + std::to_string(payload) +
                     " bytes");
  packet.payload = payload;
  return packet;
}

void encode_packet(const MultifdPacket& packet, std::string_view block, std::uint64_t number,
                   std::vector<std::byte>& into) {
  WireWriter out(into);
  out.u32(kMagic).u32(kVersion).u32(packet.sync ? kSync : 0);
  out.u32(kPacketPages).u32(packet.pages).u32(packet.payload);
  out.u64(number).u32(packet.zero_pages).zeros(kPad);
  out.raw(as_bytes(block)).zeros(kNameBytes - block.size());
  for (const std::uint64_t offset : packet.offsets) out.u64(offset);
}

}  // namespace ramferry::checkpoint
