// SPDX-License-Identifier: MIT
//
// Header, 32 bytes: u8 type, u8 zero, u16 entries, u32 payload, 24 bytes that depend on the type.
// Extent, 24 bytes: u32 slot, u8 encoding, 3 zero, u64 offset, u32 length, u32 bytes.
// Zero run, 24 bytes: u32 slot, u32 zero, u64 offset, u64 length.
#include "frame.hpp"

#include "big_endian.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace ramferry::tcp {
namespace {

constexpr std::size_t kAreaAt = kHeaderBytes - kEntryBytes;  // of the part that depends on the type

Failure malformed(const std::string& what) {
  return fail(errc::protocol_mismatch, "reading a frame: " + what);
}

/// How many bytes of the header's area a type uses, and what may follow the header.
struct Shape {
  std::size_t area;
  bool has_entries;
  std::size_t least_payload, most_payload;
};

const Shape* shape_of(FrameType type) noexcept {
  static constexpr Shape kBytes{0, false, 1, kMaxMessageBytes};
  static constexpr Shape kPlace{kEntryBytes, true, 1, kMaxPlaceBytes};
  static constexpr Shape kZero{kEntryBytes, true, 0, 0};
  static constexpr Shape kFence{8, false, 0, 0};
  static constexpr Shape kStatus{16, false, 0, 0};
  static constexpr Shape kPlain{0, false, 0, 0};
  static constexpr Shape kError{0, false, 1, kMaxReasonBytes};
  switch (type) {
    case FrameType::bytes: return &kBytes;
    case FrameType::place: return &kPlace;
    case FrameType::zero: return &kZero;
    case FrameType::fence: return &kFence;
    case FrameType::status: return &kStatus;
    case FrameType::finish:
    case FrameType::goodbye: return &kPlain;
    case FrameType::error: return &kError;
  }
  return nullptr;
}

bool all_zero(ConstBytes bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte each) { return each == std::byte{0}; });
}

/// Appends a header; returns where its area is.
std::byte* append_header(FrameType type, std::size_t entries, std::size_t payload,
                         std::vector<std::byte>& into) {
  const std::size_t at = into.size();
  into.resize(at + kHeaderBytes + (entries > 1 ? (entries - 1) * kEntryBytes : 0));
  into[at] = static_cast<std::byte>(type);
  store_big_endian(&into[at + 2], static_cast<std::uint16_t>(entries));
  store_big_endian(&into[at + 4], static_cast<std::uint32_t>(payload));
  return &into[at + kAreaAt];
}

Result<Extent> decode_extent(const std::byte* at) {
  if (!all_zero({at + 5, 3})) return malformed("reserved bytes of an extent are set");
  const Extent extent{.slot = SlotId{load_big_endian<std::uint32_t>(at)},
                      .offset = load_big_endian<std::uint64_t>(at + 8),
                      .length = load_big_endian<std::uint32_t>(at + 16),
                      .bytes = load_big_endian<std::uint32_t>(at + 20),
                      .encoding = std::to_integer<Encoding>(at[4])};
  if (extent.length == 0 || extent.bytes == 0) return malformed("an extent is empty");
  if (extent.encoding == kRawEncoding && extent.length != extent.bytes)
    return malformed("an extent of " + std::to_string(extent.length) + " bytes brings " +
                     std::to_string(extent.bytes));
  return extent;
}

Result<ZeroRun> decode_zero_run(const std::byte* at) {
  if (!all_zero({at + 4, 4})) return malformed("reserved bytes of a zero run are set");
  const ZeroRun run{.slot = SlotId{load_big_endian<std::uint32_t>(at)},
                    .offset = load_big_endian<std::uint64_t>(at + 8),
                    .length = load_big_endian<std::uint64_t>(at + 16)};
  if (run.length == 0) return malformed("a zero run is empty");
  return run;
}

void encode_extent(const Extent& extent, std::byte* at) noexcept {
  store_big_endian(at, static_cast<std::uint32_t>(extent.slot));
  at[4] = static_cast<std::byte>(extent.encoding);
  store_big_endian(at + 8, extent.offset);
  store_big_endian(at + 16, extent.length);
  store_big_endian(at + 20, extent.bytes);
}

void encode_zero_run(const ZeroRun& run, std::byte* at) noexcept {
  store_big_endian(at, static_cast<std::uint32_t>(run.slot));
  store_big_endian(at + 8, run.offset);
  store_big_endian(at + 16, run.length);
}

}  // namespace

Result<FrameHeader> decode_header(HeaderBytes bytes) {
  FrameHeader header{.type = static_cast<FrameType>(bytes[0]),
                     .entries = load_big_endian<std::uint16_t>(&bytes[2]),
                     .payload = load_big_endian<std::uint32_t>(&bytes[4])};
  const std::string type = std::to_string(std::to_integer<unsigned>(bytes[0]));
  const Shape* const shape = shape_of(header.type);
  if (shape == nullptr) return malformed("unknown type " + type);
  if (shape->has_entries ? header.entries == 0 || header.entries > kMaxEntries : header.entries != 0)
    return malformed(std::to_string(header.entries) + " entries in a frame of type " + type);
  if (header.payload < shape->least_payload || header.payload > shape->most_payload)
    return malformed(std::to_string(header.payload) + " bytes of payload in a frame of type " + type);
  if (bytes[1] != std::byte{0} || !all_zero(bytes.subspan(kAreaAt + shape->area)))
    return malformed("reserved bytes of a frame of type " + type + " are set");
  header.epoch = load_big_endian<std::uint64_t>(&bytes[kAreaAt]);
  header.consumed = load_big_endian<std::uint64_t>(&bytes[kAreaAt + 8]);
  return header;
}

Result<> decode_extents(HeaderBytes header, ConstBytes table, std::vector<Extent>& into) {
  into.clear();
  RAMFERRY_TRY_ASSIGN(const Extent first, decode_extent(&header[kAreaAt]));
  into.push_back(first);
  std::uint64_t bytes = first.bytes;
  for (std::size_t at = 0; at + kEntryBytes <= table.size(); at += kEntryBytes) {
    RAMFERRY_TRY_ASSIGN(const Extent extent, decode_extent(&table[at]));
    into.push_back(extent);
    bytes += extent.bytes;
  }
  const auto payload = load_big_endian<std::uint32_t>(&header[4]);
  if (bytes != payload)
    return malformed("extents of " + std::to_string(bytes) + " bytes in a payload of " +
                     std::to_string(payload));
  return {};
}

Result<> decode_zero_runs(HeaderBytes header, ConstBytes table, std::vector<ZeroRun>& into) {
  into.clear();
  RAMFERRY_TRY_ASSIGN(const ZeroRun first, decode_zero_run(&header[kAreaAt]));
  into.push_back(first);
  for (std::size_t at = 0; at + kEntryBytes <= table.size(); at += kEntryBytes) {
    RAMFERRY_TRY_ASSIGN(const ZeroRun run, decode_zero_run(&table[at]));
    into.push_back(run);
  }
  return {};
}

void encode_bytes(std::size_t payload, std::vector<std::byte>& into) {
  assert(payload > 0 && payload <= kMaxMessageBytes);
  append_header(FrameType::bytes, 0, payload, into);
}

void encode_place(std::span<const Extent> extents, std::vector<std::byte>& into) {
  assert(!extents.empty() && extents.size() <= kMaxEntries);
  std::size_t payload = 0;
  for (const Extent& each : extents) payload += each.bytes;
  assert(payload > 0 && payload <= kMaxPlaceBytes);
  std::byte* at = append_header(FrameType::place, extents.size(), payload, into);
  for (const Extent& each : extents) {
    encode_extent(each, at);
    at += kEntryBytes;
  }
}

void encode_zero(std::span<const ZeroRun> runs, std::vector<std::byte>& into) {
  assert(!runs.empty() && runs.size() <= kMaxEntries);
  std::byte* at = append_header(FrameType::zero, runs.size(), 0, into);
  for (const ZeroRun& each : runs) {
    encode_zero_run(each, at);
    at += kEntryBytes;
  }
}

void encode_fence(Epoch epoch, std::vector<std::byte>& into) {
  store_big_endian(append_header(FrameType::fence, 0, 0, into), epoch);
}

void encode_finish(std::vector<std::byte>& into) {
  append_header(FrameType::finish, 0, 0, into);
}

void encode_goodbye(std::vector<std::byte>& into) {
  append_header(FrameType::goodbye, 0, 0, into);
}

void encode_error(std::string_view text, std::vector<std::byte>& into) {
  text = text.substr(0, kMaxReasonBytes);
  append_header(FrameType::error, 0, text.size(), into);
  const ConstBytes reason = as_bytes(text);
  into.insert(into.end(), reason.begin(), reason.end());
}

std::array<std::byte, kHeaderBytes> encode_status(Epoch epoch, std::uint64_t consumed) noexcept {
  std::array<std::byte, kHeaderBytes> frame{};
  frame[0] = static_cast<std::byte>(FrameType::status);
  store_big_endian(&frame[kAreaAt], epoch);
  store_big_endian(&frame[kAreaAt + 8], consumed);
  return frame;
}

std::string printable(std::string_view text) {
  std::string result(text);
  std::replace_if(
      result.begin(), result.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return result;
}

}  // namespace ramferry::tcp
