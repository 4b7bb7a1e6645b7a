// SPDX-License-Identifier: MIT
#include "return_path.hpp"

#include <array>
#include <vector>

namespace ramferry::checkpoint::qemu {
namespace {

constexpr std::uint8_t kCommand = 8;
constexpr std::uint32_t kPingValue = 1;
constexpr std::uint16_t kMostData = 4096;

Result<> send_message(ByteStream& to, std::uint16_t type, ConstBytes data) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u16(type).u16(static_cast<std::uint16_t>(data.size())).raw(data);
  return to.send(bytes);
}

}  // namespace

Result<> send_shut(ByteStream& to, std::uint32_t outcome) {
  std::vector<std::byte> data;
  WireWriter(data).u32(outcome);
  return send_message(to, kShut, data);
}

Result<> send_pong(ByteStream& to, ConstBytes data) {
  return send_message(to, kPong, data);
}

void append_commands(WireWriter& out) {
  out.u8(kCommand).u16(kOpenReturnPath).u16(0);
  out.u8(kCommand).u16(kPing).u16(4).u32(kPingValue);
}

Result<> await_shut(ByteStream& from, Deadline deadline) {
  const std::string doing = "waiting for the destination to say that it has the machine";
  const std::string advice = kRefusalAdvice;
  for (;;) {
    std::array<std::byte, 4> head{};
    if (auto got = receive_exactly(from, head, deadline); !got) {
      Error error = std::move(got).error();
      if (error.advice.empty()) error.advice = advice;
      return within(std::move(error), doing);
    }
    WireReader in(head);
    const std::uint16_t type = in.u16(), length = in.u16();
    if (length > kMostData)
      return fail(errc::protocol_mismatch, doing + ": a message of " + std::to_string(length) + " bytes");
    std::vector<std::byte> data(length);
    RAMFERRY_TRY(receive_exactly(from, data, deadline));
    if (type != kShut) continue;
    WireReader value(data);
    const std::uint32_t outcome = value.u32();
    if (value.ok() && outcome == 0) return {};
    return fail(errc::peer_failed, doing + ": it could not load it", advice);
  }
}

}  // namespace ramferry::checkpoint::qemu
