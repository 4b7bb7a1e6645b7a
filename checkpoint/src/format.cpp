// SPDX-License-Identifier: MIT
#include "format.hpp"

#include "file_io.hpp"

#include <algorithm>

namespace ramferry::checkpoint::format {
namespace {

constexpr std::size_t kSummed = kHeadBytes - 8;

Failure damaged(std::string what, std::string advice = {}) {
  return fail(errc::protocol_mismatch, std::move(what), std::move(advice));
}

}  // namespace

std::array<std::byte, kHeadBytes> encode(const Outline& outline) {
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  out.raw(as_bytes(kMagic)).u32(kVersion).u32(kPageBytes);
  out.u64(outline.slots).u64(outline.metadata_bytes).u64(outline.metadata_sum);
  out.zeros(kSummed - bytes.size()).u64(checksum(ConstBytes(bytes).first(kSummed)));
  std::array<std::byte, kHeadBytes> head;
  std::copy(bytes.begin(), bytes.end(), head.begin());
  return head;
}

Result<Outline> decode_outline(ConstBytes head) {
  WireReader in(head);
  const ConstBytes magic = in.raw(kMagic.size());
  if (!in.ok() || !std::equal(magic.begin(), magic.end(), as_bytes(kMagic).begin()))
    return damaged("it is not a checkpoint of ramferry's");
  const std::uint32_t version = in.u32(), page_bytes = in.u32();
  Outline outline;
  outline.slots = in.u64();
  outline.metadata_bytes = in.u64();
  outline.metadata_sum = in.u64();
  RAMFERRY_TRY(in.finish_prefix("the checkpoint's head"));
  if (version != kVersion)
    return fail(errc::unsupported, "version " + std::to_string(version) + " of the checkpoint format",
                "use a newer ramferry");
  WireReader sum(head.subspan(kSummed));
  if (sum.u64() != checksum(head.first(kSummed)) || page_bytes != kPageBytes)
    return damaged("its head is damaged");
  if (outline.slots > UINT32_MAX || outline.metadata_bytes > kMostMetadata)
    return damaged("its head makes no sense");
  return outline;
}

void append_head(WireWriter& out, const CheckpointHead& head) {
  out.u8(static_cast<std::uint8_t>(head.origin)).raw(head.session.value);
  out.u64(static_cast<std::uint64_t>(head.taken)).text16(head.machine);
  out.u32(static_cast<std::uint32_t>(head.configuration.size())).raw(head.configuration);
  out.u32(head.ram_section);
  out.u64(head.beside.size()).raw(head.beside);
  out.u64(head.state.size()).raw(head.state);
  out.u64(head.description_at).u64(head.description_length);
  out.u32(static_cast<std::uint32_t>(head.blocks.size()));
  for (const BlockInfo& block : head.blocks) out.text8(block.name).u64(block.bytes);
}

}  // namespace ramferry::checkpoint::format
