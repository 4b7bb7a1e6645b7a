// SPDX-License-Identifier: MIT
// What QEMU's destination says to its source, and the commands that ask for it.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/error.hpp>

#include <cstdint>

namespace ramferry::checkpoint::qemu {

inline constexpr std::uint16_t kOpenReturnPath = 1, kPing = 2;  // commands of the stream
inline constexpr std::uint16_t kShut = 1, kPong = 2;            // messages of the return path

/// Where to look when a destination just hangs up: it tells nobody else.
inline constexpr const char* kRefusalAdvice =
    "the destination's own messages say why: another machine type, other devices, less memory";

/// "It is over": 0 if the guest was taken.
Result<> send_shut(ByteStream& to, std::uint32_t outcome);
/// The answer to a ping with these four bytes.
Result<> send_pong(ByteStream& to, ConstBytes data);
/// Appends the commands that make a destination answer with a PONG at once and a SHUT at the end.
void append_commands(WireWriter& out);
/// Reads up to the SHUT. errc::peer_failed if the destination says that it failed, errc::peer_gone if it says
/// nothing.
Result<> await_shut(ByteStream& from, Deadline deadline);

}  // namespace ramferry::checkpoint::qemu
