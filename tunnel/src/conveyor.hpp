// SPDX-License-Identifier: MIT
// Moves all bytes of one byte stream to another, until the first ends.
//
// Where both are sockets the kernel passes its buffers on (splice(2)): no byte is copied, and at most
// kMostAtOnce are between the two. Anything else goes through a buffer of that size.
#pragma once

#include <ramferry/byte_stream.hpp>

#include <atomic>
#include <cstdint>
#include <optional>

namespace ramferry::tunnel {

/// The end of it: the source's end if both are empty.
struct Conveyed {
  std::optional<Error> source, sink;
};

inline constexpr std::size_t kMostAtOnce = 256 * 1024;

/// Receives and sends in the calling thread, in which SIGPIPE must not kill. Counts what it took and what
/// it passed on, where asked.
Conveyed convey(ByteStream& source, ByteStream& sink, std::atomic<std::uint64_t>* taken,
                std::atomic<std::uint64_t>* passed_on);

/// Holds SIGPIPE back from this thread, for good: splice(2) to a socket that has ended raises it.
void hold_back_sigpipe() noexcept;

}  // namespace ramferry::tunnel
