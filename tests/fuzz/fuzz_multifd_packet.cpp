// SPDX-License-Identifier: MIT
// The head of a multifd packet from anybody.
#include "fuzz/replay.hpp"
#include "multifd_packet.hpp"

using namespace ramferry;
using namespace ramferry::checkpoint;

namespace {

const std::vector<BlockInfo> kBlocks = {{"pc.ram", 64 * kPageBytes}, {"rom", kPageBytes}};

std::vector<std::byte> seed(const MultifdPacket& packet, std::string_view block) {
  std::vector<std::byte> bytes;
  encode_packet(packet, block, 3, bytes);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto packet = decode_packet(fuzz::input(data, size), kBlocks);
  if (!packet) return 0;
  RAMFERRY_FUZZ_CHECK(size == kPacketHeadBytes);
  RAMFERRY_FUZZ_CHECK(packet->pages + packet->zero_pages <= kPacketPages);
  RAMFERRY_FUZZ_CHECK(packet->payload <= kMostPayloadBytes && (packet->payload != 0) == (packet->pages != 0));
  if (packet->pages + packet->zero_pages == 0) return 0;
  RAMFERRY_FUZZ_CHECK(packet->block < kBlocks.size());
  for (const auto offsets : {packet->page_offsets(), packet->zero_offsets()})
    for (const std::uint64_t offset : offsets)
      RAMFERRY_FUZZ_CHECK(offset % kPageBytes == 0 && offset + kPageBytes <= kBlocks[packet->block].bytes);
  if (packet->compression != MultifdPacket::Compression::none) return 0;
  const auto again = decode_packet(seed(*packet, kBlocks[packet->block].name), kBlocks);
  RAMFERRY_FUZZ_CHECK(again.has_value() && again->offsets == packet->offsets && again->sync == packet->sync);
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  MultifdPacket full{.payload = 64 * static_cast<std::uint32_t>(kPageBytes), .pages = 64, .zero_pages = 64};
  for (std::size_t i = 0; i < kPacketPages; ++i) full.offsets[i] = i % 64 * kPageBytes;
  MultifdPacket packed{.sync = true, .payload = 33, .pages = 1};
  auto zstd = seed(packed, "rom");
  zstd[11] = std::byte{5};
  return {seed(full, "pc.ram"), zstd, seed({.sync = true}, {})};
}
