// SPDX-License-Identifier: MIT
#include "socket.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>
#include <utility>

namespace ramferry::tcp {
namespace {

constexpr std::array<std::string_view, 3> kDialects = {"auto", "native", "qemu"};
constexpr std::array<OptionSpec, 7> kOptions = {{
    {"dialect", "auto|native|qemu", "whom to expect: a ramferry, a QEMU; auto asks a listener to find out"},
    {"lanes", "1-64", "connections that share the placements; the connecting end decides"},
    {"channels", "0-16", "connections of QEMU's multifd beside its main one, as many as the QEMU has (0)"},
    {"uuid", "UUID", "with channels, to a QEMU that was started with -uuid: the same"},
    {"peer-timeout", "1-3600", "seconds of silence after which the other end counts as gone (10)"},
    {"buffer", "SIZE", "the sockets' send and receive buffers (chosen by the system)"},
    {"connect-timeout", "1-3600", "seconds to get connected (no limit of its own)"},
}};

/// The default, 208 KiB, makes sender and receiver wait for each other at every piece. TCP sizes its own.
constexpr int kUnixBuffer = 512 << 10;

constexpr std::string_view kUnnamed = "unix:";

int set_option(int fd, int level, int option, int value) noexcept {
  return ::setsockopt(fd, level, option, &value, sizeof value);
}

/// Probes of an idle connection: vanished hosts are noticed within about `limit`.
void set_keep_alive(int fd, std::chrono::milliseconds limit) noexcept {
  const int seconds = static_cast<int>(std::max<std::int64_t>(limit.count() / 1000, 1));
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, std::max(seconds / 2, 1));
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, std::max(seconds / 6, 1));
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

using NameCall = int (*)(int, sockaddr*, socklen_t*);

std::string address_text(int fd, NameCall name_of) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (name_of(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return "?";
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage.ss_family == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(address.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(storage);
    ::inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
    return "[" + std::string(text.data()) + "]:" + std::to_string(ntohs(address.sin6_port));
  }
  const auto& address = reinterpret_cast<const sockaddr_un&>(storage);
  if (size <= offsetof(sockaddr_un, sun_path)) return std::string(kUnnamed);
  return "unix:" +
         std::string(address.sun_path, ::strnlen(address.sun_path, size - offsetof(sockaddr_un, sun_path)));
}

/// 32 hexadecimal digits, dashes anywhere.
Result<std::array<std::byte, 16>> uuid_option(const Endpoint& endpoint) {
  std::array<std::byte, 16> uuid{};
  const auto found = endpoint.options.find("uuid");
  if (found == endpoint.options.end()) return uuid;
  std::size_t digits = 0;
  for (const char each : found->second) {
    if (each == '-') continue;
    unsigned value = 0;
    const auto parsed = std::from_chars(&each, &each + 1, value, 16);
    if (parsed.ec != std::errc{} || digits == 2 * uuid.size()) {
      digits = 0;
      break;
    }
    uuid[digits / 2] = uuid[digits / 2] << 4 | static_cast<std::byte>(value);
    ++digits;
  }
  if (digits == 2 * uuid.size()) return uuid;
  return fail(errc::invalid_argument, "option uuid: '" + found->second + "' is none",
              "give 32 hexadecimal digits, as in 550e8400-e29b-41d4-a716-446655440000");
}

}  // namespace

std::span<const OptionSpec> known_options() noexcept {
  return kOptions;
}

Result<Settings> parse_settings(const Endpoint& endpoint) {
  Settings settings;
  RAMFERRY_TRY_ASSIGN(const std::size_t dialect, choice_option(endpoint, "dialect", kDialects, 0));
  settings.dialect = static_cast<Settings::Dialect>(dialect);
  RAMFERRY_TRY_ASSIGN(const std::uint64_t lanes, number_option(endpoint, "lanes", 1, 64, 1));
  settings.lanes = static_cast<std::uint16_t>(lanes);
  RAMFERRY_TRY_ASSIGN(const std::uint64_t channels, number_option(endpoint, "channels", 0, 16, 0));
  settings.channels = static_cast<std::uint16_t>(channels);
  RAMFERRY_TRY_ASSIGN(settings.uuid, uuid_option(endpoint));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t timeout, number_option(endpoint, "peer-timeout", 1, 3600, 10));
  settings.peer_timeout = std::chrono::seconds(timeout);
  RAMFERRY_TRY_ASSIGN(settings.buffer, size_option(endpoint, "buffer", 0));
  if (settings.buffer > INT_MAX)
    return fail(errc::invalid_argument, "option buffer: " + format_size(settings.buffer) + " is too much",
                "give at most 2G");
  RAMFERRY_TRY_ASSIGN(const std::uint64_t connect, number_option(endpoint, "connect-timeout", 1, 3600, 0));
  settings.connect_timeout = std::chrono::seconds(connect);
  return settings;
}

Result<> prepare_socket(int fd, const Settings& settings) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
    return fail_errno(errno, "setting up a socket");
  if (settings.buffer != 0) {
    // The system caps both silently; facts() tells what came out.
    set_option(fd, SOL_SOCKET, SO_SNDBUF, static_cast<int>(settings.buffer));
    set_option(fd, SOL_SOCKET, SO_RCVBUF, static_cast<int>(settings.buffer));
  }
  if (is_unix_socket(fd)) {
    if (settings.buffer == 0) set_option(fd, SOL_SOCKET, SO_SNDBUF, kUnixBuffer);
    return {};
  }
  if (set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0) return fail_errno(errno, "setting up a socket");
  set_keep_alive(fd, settings.peer_timeout);
  return {};
}

bool is_unix_socket(int fd) noexcept {
  int domain = 0;
  socklen_t size = sizeof domain;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

std::string local_address(int fd) {
  return address_text(fd, &::getsockname);
}
std::string peer_address(int fd) {
  const std::string address = address_text(fd, &::getpeername);
  // Whoever connected has no name.
  return address == kUnnamed ? "the other end of " + address_text(fd, &::getsockname) : address;
}

std::size_t buffer_size(int fd, int option) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 && value > 0
             ? static_cast<std::size_t>(value)
             : 0;
}

Failure socket_failure(int error_number, std::string doing) {
  if (error_number == ETIMEDOUT)
    return fail(errc::peer_gone, std::move(doing) + ": its host does not answer any more");
  return fail_errno(error_number, std::move(doing));
}

std::span<iovec> advance(std::span<iovec> pieces, std::size_t moved) noexcept {
  while (!pieces.empty() && moved >= pieces.front().iov_len) {
    moved -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  if (!pieces.empty() && moved > 0) {
    pieces.front().iov_base = static_cast<std::byte*>(pieces.front().iov_base) + moved;
    pieces.front().iov_len -= moved;
  }
  return pieces;
}

std::size_t total_bytes(std::span<const iovec> pieces) noexcept {
  std::size_t total = 0;
  for (const iovec& each : pieces) total += each.iov_len;
  return total;
}

Result<> wait_for(int fd, short events, Deadline deadline, std::string_view doing) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.left(std::chrono::hours(1)));
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(left.count()));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail_errno(errno, std::string(doing));
    if (deadline.passed()) return fail(errc::timed_out, std::string(doing));
  }
}

Result<> read_exactly(int fd, Bytes into, Deadline deadline, std::string_view doing) {
  while (!into.empty()) {
    const ssize_t got = ::recv(fd, into.data(), into.size(), MSG_DONTWAIT);
    if (got > 0) {
      into = into.subspan(static_cast<std::size_t>(got));
    } else if (got == 0) {
      return fail(errc::peer_gone, std::string(doing) + ": the other end closed the connection");
    } else if (errno == EAGAIN) {
      RAMFERRY_TRY(wait_for(fd, POLLIN, deadline, doing));
    } else if (errno != EINTR) {
      return socket_failure(errno, std::string(doing));
    }
  }
  return {};
}

Result<> write_all(int fd, ConstBytes bytes, std::string_view doing) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) return socket_failure(errno, std::string(doing));
    if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

std::size_t unacknowledged_bytes(int fd) noexcept {
  int bytes = 0;
  if (is_unix_socket(fd) || ::ioctl(fd, SIOCOUTQ, &bytes) != 0 || bytes < 0) return 0;
  return static_cast<std::size_t>(bytes);
}

bool peer_unreachable(int fd, std::chrono::milliseconds limit) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  return info.tcpi_unacked > 0 && info.tcpi_retransmits > 0 &&
         std::chrono::milliseconds(info.tcpi_last_ack_recv) >= limit;
}

}  // namespace ramferry::tcp
