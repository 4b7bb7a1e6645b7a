// SPDX-License-Identifier: MIT
#include "preamble.hpp"

#include "big_endian.hpp"

#include <algorithm>
#include <cstring>

namespace ramferry::tcp {
namespace {

constexpr std::uint32_t kLeastWindow = 4096;
constexpr std::uint32_t kLeastPeerTimeout = 100, kMostPeerTimeout = 24 * 3600 * 1000;

Failure malformed(const std::string& what) {
  return fail(errc::protocol_mismatch, "reading a preamble: " + what);
}

}  // namespace

std::size_t preamble_bytes(const Preamble& preamble) noexcept {
  constexpr std::size_t kFixed = kPreamblePrefix + 4 + 16 + 4 + 8 + 8 + 2;
  return kFixed + std::min(preamble.reason.size(), kMaxRefusalBytes) +
         (preamble.kind == PreambleKind::side ? 4 : 0);
}

void encode_preamble(const Preamble& preamble, std::vector<std::byte>& into) {
  const std::size_t start = into.size();
  WireWriter writer(into);
  writer.raw(kMagic).u16(kVersion).u16(0);
  writer.u8(static_cast<std::uint8_t>(preamble.kind)).zeros(3).raw(preamble.session.value);
  writer.u16(preamble.lane).u16(preamble.lanes).u32(preamble.required).u32(preamble.optional);
  writer.u32(preamble.window).u32(preamble.peer_timeout_ms);
  writer.text16(std::string_view(preamble.reason).substr(0, kMaxRefusalBytes));
  if (preamble.kind == PreambleKind::side) writer.u32(preamble.side);
  store_big_endian(&into[start + kPreamblePrefix - 2], static_cast<std::uint16_t>(into.size() - start));
}

Result<std::size_t> decode_preamble_size(std::span<const std::byte, kPreamblePrefix> prefix) {
  if (!std::equal(kMagic.begin(), kMagic.end(), prefix.begin())) return malformed("this is not a ramferry");
  const auto version = load_big_endian<std::uint16_t>(&prefix[8]);
  if (version != kVersion)
    return fail(errc::unsupported,
                "the peer speaks version " + std::to_string(version) +
                    " of the socket protocol, this is version " + std::to_string(kVersion),
                "use the same release of ramferry at both ends");
  const std::size_t size = load_big_endian<std::uint16_t>(&prefix[10]);
  if (size <= kPreamblePrefix || size > kMaxPreambleBytes)
    return malformed("a size of " + std::to_string(size) + " bytes");
  return size;
}

Result<Preamble> decode_preamble(ConstBytes bytes) {
  WireReader reader(bytes);
  reader.raw(kPreamblePrefix);
  Preamble preamble;
  preamble.kind = static_cast<PreambleKind>(reader.u8());
  reader.raw(3);
  const ConstBytes session = reader.raw(preamble.session.value.size());
  std::copy(session.begin(), session.end(), preamble.session.value.begin());
  preamble.lane = reader.u16();
  preamble.lanes = reader.u16();
  preamble.required = reader.u32();
  preamble.optional = reader.u32();
  preamble.window = reader.u32();
  preamble.peer_timeout_ms = reader.u32();
  preamble.reason = reader.text16();
  if (preamble.kind == PreambleKind::side) preamble.side = reader.u32();
  RAMFERRY_TRY(reader.finish_prefix("a preamble"));
  if (preamble.kind < PreambleKind::hello || preamble.kind > PreambleKind::side)
    return malformed("an unknown kind");
  if (preamble.kind == PreambleKind::refused) return preamble;
  if (preamble.lanes == 0 || preamble.lanes > kMaxLanes || preamble.lane >= preamble.lanes)
    return malformed("lane " + std::to_string(preamble.lane) + " of " + std::to_string(preamble.lanes));
  if (preamble.session.is_nil()) return malformed("no session");
  if (preamble.window < kLeastWindow)
    return malformed("a window of " + std::to_string(preamble.window) + " bytes");
  if (preamble.peer_timeout_ms < kLeastPeerTimeout || preamble.peer_timeout_ms > kMostPeerTimeout)
    return malformed("a peer timeout of " + std::to_string(preamble.peer_timeout_ms) + " ms");
  const std::uint32_t unknown = preamble.required & ~kKnownFeatures;
  if (unknown != 0)
    return fail(errc::unsupported,
                "the peer requires features that are unknown here (bits " + std::to_string(unknown) + ")",
                "use the same release of ramferry at both ends");
  return preamble;
}

}  // namespace ramferry::tcp
