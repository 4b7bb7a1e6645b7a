// SPDX-License-Identifier: MIT
// Connected sockets: their options, and the few system calls of the data path.
//
// Once handed to a lane or stream a socket is in blocking mode: the hot path is one system call per frame,
// and shutdown(2) from any thread is what ends a blocked one.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/error.hpp>

#include <sys/uio.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace ramferry::tcp {

/// The options of an endpoint, checked.
struct Settings {
  enum class Dialect : std::uint8_t { automatic, native, qemu };
  Dialect dialect = Dialect::automatic;
  std::uint16_t lanes = 1;
  std::uint16_t channels = 0;        ///< of QEMU's multifd, beside its main connection
  std::array<std::byte, 16> uuid{};  ///< which its channels name: the machine's, zeros for none
  std::chrono::milliseconds peer_timeout{10'000};
  std::uint64_t buffer = 0;                      ///< SO_SNDBUF and SO_RCVBUF; 0 = our choice
  std::chrono::milliseconds connect_timeout{0};  ///< 0 = only the caller's deadline
};
Result<Settings> parse_settings(const Endpoint& endpoint);
std::span<const OptionSpec> known_options() noexcept;

/// Blocking, close-on-exec, no delay, keep-alive within `peer_timeout`, buffers.
Result<> prepare_socket(int fd, const Settings& settings);
bool is_unix_socket(int fd) noexcept;
/// "127.0.0.1:4444", "[::1]:4444", "unix:/path"; an unnamed end is told by the named one.
std::string local_address(int fd);
std::string peer_address(int fd);
std::size_t buffer_size(int fd, int option) noexcept;

/// A failed call on a connected socket. ETIMEDOUT there means a silent host, never a deadline.
Failure socket_failure(int error_number, std::string doing);

/// Drops what was moved from the front; empty iovecs too. Returns what is left.
std::span<iovec> advance(std::span<iovec> pieces, std::size_t moved) noexcept;
std::size_t total_bytes(std::span<const iovec> pieces) noexcept;
inline iovec to_iovec(ConstBytes bytes) noexcept {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};  // NOLINT: sendmsg does not write
}

/// poll(2) for `events` until the deadline; errc::timed_out. `doing` names what is waited for.
Result<> wait_for(int fd, short events, Deadline deadline, std::string_view doing);
/// For preambles: all of `into` before the deadline; errc::peer_gone if the connection ends before.
Result<> read_exactly(int fd, Bytes into, Deadline deadline, std::string_view doing);
Result<> write_all(int fd, ConstBytes bytes, std::string_view doing);

/// Bytes that the peer's system has not acknowledged yet; 0 for unix sockets, where sent is arrived.
std::size_t unacknowledged_bytes(int fd) noexcept;
/// Whether the peer's system has left retransmissions unanswered for at least `limit`. Never true of a peer
/// that only keeps its window closed. False for unix sockets.
bool peer_unreachable(int fd, std::chrono::milliseconds limit) noexcept;

}  // namespace ramferry::tcp
