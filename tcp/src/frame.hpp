// SPDX-License-Identifier: MIT
// The frames that cross a connection after its preamble, and the caps that bound what a peer can ask for.
//
// A frame is a fixed header, further table entries, and a payload. The header has room for the first table
// entry, so that a bulk placement (one extent) needs no table and the next header can be read along with its
// payload.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/channel.hpp>
#include <ramferry/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::tcp {

enum class FrameType : std::uint8_t {
  bytes = 1,  ///< payload: part of the ordered bytes
  place,      ///< extents, then their payloads back to back
  zero,       ///< zero runs
  fence,      ///< an epoch
  status,     ///< how far this end got; also the heartbeat
  finish,     ///< no bytes will follow
  error,      ///< this end failed, and why; the last frame
  goodbye,    ///< this end closes the channel; the last frame
};

inline constexpr std::size_t kHeaderBytes = 32;
inline constexpr std::size_t kEntryBytes = 24;
inline constexpr std::size_t kMaxEntries = 1000;
inline constexpr std::size_t kMaxTableBytes = (kMaxEntries - 1) * kEntryBytes;
inline constexpr std::size_t kMaxMessageBytes = std::size_t{256} << 10;  ///< payload of a bytes frame
inline constexpr std::size_t kMaxPlaceBytes = std::size_t{8} << 20;      ///< payload of a place frame
inline constexpr std::size_t kMaxReasonBytes = 1024;                     ///< payload of an error frame

/// A placement as it crosses the wire: `bytes` bytes of payload that become `length` bytes at `offset`.
struct Extent {
  SlotId slot{};
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::uint32_t bytes = 0;
  Encoding encoding = kRawEncoding;
  bool operator==(const Extent&) const = default;
};

using HeaderBytes = std::span<const std::byte, kHeaderBytes>;

/// What every header says, checked against the caps of its type. The fields of the other types are
/// unspecified.
struct FrameHeader {
  FrameType type{};
  std::uint16_t entries = 0;   ///< place, zero: in all, the first one included
  std::uint32_t payload = 0;   ///< bytes, place, error: bytes that follow header and table
  std::uint64_t epoch = 0;     ///< fence; status: the newest epoch that is in place here
  std::uint64_t consumed = 0;  ///< status: message bytes that were received here, in all
  std::size_t table_bytes() const noexcept { return entries > 1 ? (entries - 1u) * kEntryBytes : 0; }
};

/// errc::protocol_mismatch for whatever this version does not send.
Result<FrameHeader> decode_header(HeaderBytes bytes);
/// The extents of a place frame whose header was decoded: the first from `header`, the rest from `table`.
Result<> decode_extents(HeaderBytes header, ConstBytes table, std::vector<Extent>& into);
Result<> decode_zero_runs(HeaderBytes header, ConstBytes table, std::vector<ZeroRun>& into);

// Each appends a whole frame but for its payload.
void encode_bytes(std::size_t payload, std::vector<std::byte>& into);
void encode_place(std::span<const Extent> extents, std::vector<std::byte>& into);
void encode_zero(std::span<const ZeroRun> runs, std::vector<std::byte>& into);
void encode_fence(Epoch epoch, std::vector<std::byte>& into);
void encode_finish(std::vector<std::byte>& into);
void encode_goodbye(std::vector<std::byte>& into);
/// With its payload; the text is cut to kMaxReasonBytes.
void encode_error(std::string_view text, std::vector<std::byte>& into);
std::array<std::byte, kHeaderBytes> encode_status(Epoch epoch, std::uint64_t consumed) noexcept;

/// Text from a peer, fit for terminals and logs.
std::string printable(std::string_view text);

}  // namespace ramferry::tcp
