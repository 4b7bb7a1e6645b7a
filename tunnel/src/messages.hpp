// SPDX-License-Identifier: MIT
// The tunnel's messages: fixed 9 bytes each, big-endian, in the channel's ordered bytes. See
// docs/protocol.md.
#pragma once

#include <ramferry/bytes.hpp>

#include <array>
#include <cstdint>

namespace ramferry::tunnel {

inline constexpr std::size_t kMessageBytes = 9;

/// 0 is reserved, so that zeroed bytes mean nothing.
enum class MessageType : std::uint8_t {
  open = 1,         ///< a new stream; value: ring bytes, must equal the receiver's
  opened = 2,       ///< its ring is exposed: the opener may place
  data = 3,         ///< value: so many more bytes are in the ring
  credit = 4,       ///< value: so many bytes were taken out of the ring
  end = 5,          ///< no more data follows in this direction
  reset = 6,        ///< the plain side failed: drop the stream, both directions
  closed = 7,       ///< the sender is done with the stream; when both are, its number may be used again
  open_beside = 8,  ///< a new stream, over side stream number `value`: no ring, no data, no credit
};

struct Message {
  MessageType type{};
  std::uint32_t stream = 0, value = 0;
};

std::array<std::byte, kMessageBytes> encode(const Message& message);
/// errc::protocol_mismatch for an unknown type. Range checks of stream and value are the session's.
Result<Message> decode(ConstBytes bytes);

}  // namespace ramferry::tunnel
