// SPDX-License-Identifier: MIT
#include "examine.hpp"

#include <ramferry/unique_fd.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>

namespace ramferry::tcp {
namespace {

using Verdict = Check::Verdict;

// One connection fills 10 Gbit/s at 3 ms with this much in flight.
constexpr std::uint64_t kPlenty = 4ULL << 20;

Result<> cross(int from, int to, const std::string& doing) {
  char byte = 'r';
  if (::send(from, &byte, 1, MSG_NOSIGNAL) != 1 || ::recv(to, &byte, 1, 0) != 1)
    return fail_errno(errno, doing);
  return {};
}

Result<> cross_unix() {
  int pair[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno(errno, "making a unix socket", "allow AF_UNIX in the sandbox or seccomp filter");
  const UniqueFd one(pair[0]), other(pair[1]);
  return cross(one.get(), other.get(), "sending over a unix socket");
}

template <class SocketAddress>
Result<> cross_loopback(SocketAddress address) {
  const std::string doing = "connecting over the loopback interface";
  const std::string advice = "ip link set lo up";
  auto* const plain = reinterpret_cast<sockaddr*>(&address);
  socklen_t length = sizeof address;
  const UniqueFd listener(::socket(plain->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd one(::socket(plain->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener || !one)
    return fail_errno(errno, "making a socket", "allow it in the sandbox or seccomp filter");
  if (::bind(listener.get(), plain, length) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), plain, &length) != 0 || ::connect(one.get(), plain, length) != 0)
    return fail_errno(errno, doing, advice);
  const UniqueFd other(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!other) return fail_errno(errno, doing, advice);
  return cross(one.get(), other.get(), "sending over the loopback interface");
}

Result<> cross_ipv4() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return cross_loopback(address);
}

Result<> cross_ipv6() {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = IN6ADDR_LOOPBACK_INIT;
  return cross_loopback(address);
}

/// `files` are "least default most", as tcp(7) has them.
Check check_buffer(const SystemFiles& files, const std::string& name, const std::string& setting) {
  std::string path = "/proc/sys/" + setting;
  for (char& each : path)
    if (each == '.') each = '/';
  const auto words = words_of(files.line(path).value_or(""));
  if (words.size() != 3) return {name, Verdict::note, "the kernel does not tell " + setting, {}};
  const std::uint64_t most = std::strtoull(words[2].c_str(), nullptr, 10);
  const std::string found = "up to " + format_size(most) + " for a connection (" + setting + ")";
  if (most >= kPlenty) return {name, Verdict::yes, found, {}};
  return {name, Verdict::note, found + ": may hold back a fast or long link",
          "sysctl -w " + setting + "=\"" + words[0] + " " + words[1] + " 16777216\""};
}

}  // namespace

std::vector<Check> examine_sockets() {
  Check ipv6 = to_check("TCP over IPv6", cross_ipv6());
  if (ipv6.verdict == Verdict::no) ipv6.verdict = Verdict::note;  // most get along without
  return {to_check("TCP over IPv4", cross_ipv4()), ipv6, to_check("unix sockets", cross_unix())};
}

std::vector<Check> examine_buffers(const SystemFiles& files) {
  return {check_buffer(files, "TCP send buffer", "net.ipv4.tcp_wmem"),
          check_buffer(files, "TCP receive buffer", "net.ipv4.tcp_rmem"),
          {"TCP congestion control",
           Verdict::note,
           files.line("/proc/sys/net/ipv4/tcp_congestion_control").value_or("unknown"),
           {}}};
}

std::vector<Check> examine(const SystemFiles& files, const Endpoint* to) {
  constexpr auto kPatience = std::chrono::seconds(5);
  std::vector<Check> checks = examine_sockets();
  for (Check& each : examine_buffers(files)) checks.push_back(std::move(each));
  if (to != nullptr)
    for (Check& each : examine_way(files, *to, Deadline::after(kPatience))) checks.push_back(std::move(each));
  return checks;
}

}  // namespace ramferry::tcp
