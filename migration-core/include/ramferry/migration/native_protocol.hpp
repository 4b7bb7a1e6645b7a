// SPDX-License-Identifier: MIT
// The messages around the savevm stream when both ends are ramferry; docs/protocol.md has the grammar.
//
//   u8 type (0 is no message)   u32 length (at most 64 KiB)   payload
//
// Source to destination: hello, then the savevm stream, then commit or failed. Destination to source:
// hello_reply, slots_ready for each section with slots, prepared, running; or failed at any time.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/migration/section.hpp>
#include <ramferry/session_id.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::migration::native {

inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint32_t kMostPayload = 64 * 1024;

enum class MessageType : std::uint8_t {
  hello = 1,
  hello_reply = 2,
  slots_ready = 3,
  prepared = 4,
  commit = 5,
  running = 6,
  failed = 7,
};
std::string_view to_string(MessageType type) noexcept;

struct Message {
  MessageType type{};
  std::vector<std::byte> payload;
};

Result<> send_message(ByteStream& to, MessageType type, ConstBytes payload = {});
/// errc::protocol_mismatch for an unknown type or a payload that is too large.
Result<Message> read_message(SectionReader& from);

namespace feature {
inline constexpr std::uint64_t kXbzrle = 1U << 0;       ///< placements under Encoding xbzrle and copy
inline constexpr std::uint64_t kCompression = 1U << 1;  ///< placements under Encoding zlib and zstd
inline constexpr std::uint64_t kKnown = kXbzrle | kCompression;
}  // namespace feature

/// Features are bits. A required one that the other end does not know ends the migration; the reply has those
/// of the optional ones that both know.
struct Hello {
  std::uint16_t version = kVersion;
  std::uint64_t required = 0, optional = 0;
  SessionId session;
  std::uint32_t page_bytes = 4096;
  std::string machine;
};
std::vector<std::byte> encode(const Hello& hello);
Result<Hello> decode_hello(ConstBytes payload);
/// The source's first message, which must be a hello of our version that needs no feature outside of `known`.
Result<Hello> accept_hello(const Message& first, std::uint64_t known);

struct HelloReply {
  std::uint16_t version = kVersion;
  std::uint64_t features = 0;
  bool blank = false;  ///< the destination's memory is all zeros
};
std::vector<std::byte> encode(const HelloReply& reply);
Result<HelloReply> decode_hello_reply(ConstBytes payload);

/// The text of a failed message; cut to what fits.
std::vector<std::byte> encode_failed(std::string_view text);
/// What the other end says, as an error here; odd bytes in it are replaced.
Error decode_failed(ConstBytes payload, std::string_view who);

/// Whose the guest is when the destination has said PREPARED (`said`) and read on (`answer`): its own on
/// success. A source that says why it failed keeps it; for anything else errc::outcome_unknown, with the
/// reason as its text.
Result<> committed(const Result<>& said, const Result<Message>& answer);

}  // namespace ramferry::migration::native
