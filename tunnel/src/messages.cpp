// SPDX-License-Identifier: MIT
#include "messages.hpp"

#include <algorithm>
#include <vector>

namespace ramferry::tunnel {

std::array<std::byte, kMessageBytes> encode(const Message& message) {
  std::vector<std::byte> buffer;
  buffer.reserve(kMessageBytes);
  WireWriter(buffer).u8(static_cast<std::uint8_t>(message.type)).u32(message.stream).u32(message.value);
  std::array<std::byte, kMessageBytes> bytes{};
  std::copy(buffer.begin(), buffer.end(), bytes.begin());
  return bytes;
}

Result<Message> decode(ConstBytes bytes) {
  WireReader reader(bytes);
  const std::uint8_t type = reader.u8();
  Message message{MessageType{}, reader.u32(), 0};
  message.value = reader.u32();
  RAMFERRY_TRY(reader.finish("a tunnel message"));
  if (type < static_cast<std::uint8_t>(MessageType::open) ||
      type > static_cast<std::uint8_t>(MessageType::open_beside))
    return fail(errc::protocol_mismatch, "reading a tunnel message: unknown type " + std::to_string(type),
                "is the other end a ramferry tunnel of the same version?");
  message.type = static_cast<MessageType>(type);
  return message;
}

}  // namespace ramferry::tunnel
