// SPDX-License-Identifier: MIT
#include "examine.hpp"

#include <ramferry/unique_fd.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

namespace ramferry::tcp {
namespace {

using Verdict = Check::Verdict;

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const noexcept { return storage.ss_family; }
};

std::string to_text(const Address& address) {
  std::array<char, NI_MAXHOST> host{};
  const int error =
      ::getnameinfo(address.get(), address.length, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST);
  return error == 0 ? host.data() : "?";
}

std::string why(int error_number) {
  return std::generic_category().message(error_number);
}

/// 0, or errno.
int connect_by(int fd, const Address& to, Deadline deadline) {
  if (::connect(fd, to.get(), to.length) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd waiting{fd, POLLOUT, 0};
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.left(std::chrono::minutes(1)));
    const int ready = ::poll(&waiting, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno != EINTR) return errno;
    if (ready > 0) break;
    if (deadline.passed()) return ETIMEDOUT;
  }
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

UniqueFd open_socket(int family, int type) {
  return UniqueFd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

std::string how_to_start(const Endpoint& to) {
  return "start the destination first: ramferry vm --name vm1 --qmp unix:/tmp/vm1.qmp --incoming " +
         to.to_string();
}

Check judge_connect(const Endpoint& to, int error) {
  const std::string name = "connect to " + to.to_string();
  switch (error) {
    case 0: return {name, Verdict::yes, "somebody listens", {}};
    case ECONNREFUSED: return {name, Verdict::no, "nobody listens", how_to_start(to)};
    case ETIMEDOUT:
      return {name, Verdict::no, "no answer in time",
              "let the port through on the destination: nft insert rule inet filter input tcp dport " +
                  std::to_string(to.port) + " accept"};
    default: return {name, Verdict::no, why(error), "see where packets end: tracepath " + to.host};
  }
}

/// A connection that says nothing and ends: a listener of ours skips it, a QEMU takes it for its migration.
Check check_connect(const Endpoint& to, const Address& address, Deadline deadline) {
  const auto dialect = to.options.find("dialect");
  if (dialect != to.options.end() && dialect->second == "qemu")
    return {"connect to " + to.to_string(),
            Verdict::note,
            "not tried: a QEMU takes the first connection for its migration",
            {}};
  const UniqueFd socket = open_socket(address.family(), SOCK_STREAM);
  return judge_connect(to, socket ? connect_by(socket.get(), address, deadline) : errno);
}

std::string interface_of(const Address& local) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(all, &::freeifaddrs);
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != local.family()) continue;
    Address address{.length = local.length};
    std::memcpy(&address.storage, each->ifa_addr, local.length);
    if (to_text(address) == to_text(local)) return each->ifa_name;
  }
  return {};
}

/// A datagram socket learns its route by connecting, and sends nothing.
Check check_route(const SystemFiles& files, const Address& to) {
  const std::string name = "route to " + to_text(to);
  const UniqueFd socket = open_socket(to.family(), SOCK_DGRAM);
  if (!socket || ::connect(socket.get(), to.get(), to.length) != 0)
    return {name, Verdict::no, why(errno),
            "ip route add " + to_text(to) + " dev INTERFACE (`ip address` lists them)"};
  Address local{.length = sizeof local.storage};
  if (::getsockname(socket.get(), local.get(), &local.length) != 0) return {name, Verdict::yes, "found", {}};
  std::string found = "from " + to_text(local);
  if (const std::string interface = interface_of(local); !interface.empty()) {
    found += " on " + interface;
    if (const auto mtu = files.number("/sys/class/net/" + interface + "/mtu"))
      found += ", MTU " + std::to_string(*mtu);
  }
  return {name, Verdict::yes, found, {}};
}

Check check_listen(const Endpoint& at, const Address& local) {
  const std::string name = "listen on " + at.to_string();
  const UniqueFd socket = open_socket(local.family(), SOCK_STREAM);
  const int yes = 1;
  if (socket && ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
      ::bind(socket.get(), local.get(), local.length) == 0 && ::listen(socket.get(), 1) == 0)
    return {name, Verdict::yes, "the port is free", {}};
  return {name, Verdict::no, why(errno),
          errno == EACCES ? "choose a port above 1023"
                          : "choose another port, or 0 for any; `ss -ltnp` shows who has it"};
}

Result<std::vector<Address>> resolve(const Endpoint& to) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (to.host.empty() ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(to.host.empty() ? nullptr : to.host.c_str(),
                                  std::to_string(to.port).c_str(), &hints, &found);
  if (error != 0) return fail(errc::not_found, ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  std::vector<Address> all;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    Address& address = all.emplace_back();
    address.length = std::min<socklen_t>(each->ai_addrlen, sizeof address.storage);
    std::memcpy(&address.storage, each->ai_addr, address.length);
  }
  return all;
}

std::vector<Check> examine_host(const SystemFiles& files, const Endpoint& to, Deadline deadline) {
  const auto addresses = resolve(to);
  if (!addresses)
    return {{"address of " + to.host, Verdict::no, addresses.error().doing,
             "give the address in numbers, or see what `getent hosts " + to.host + "` says"}};
  if (to.host.empty()) return {check_listen(to, addresses->front())};
  std::string found;
  for (const Address& each : *addresses) found += (found.empty() ? "" : ", ") + to_text(each);
  std::vector<Check> checks = {{"address of " + to.host, Verdict::yes, found, {}}};
  // One that works is enough, and connecting tries them in this order.
  std::vector<Check> tried;
  for (const Address& each : *addresses) {
    tried = {check_route(files, each), check_connect(to, each, deadline)};
    if (tried.back().verdict != Verdict::no || deadline.passed()) break;
  }
  for (Check& each : tried) checks.push_back(std::move(each));
  return checks;
}

std::vector<Check> examine_path(const Endpoint& to, Deadline deadline) {
  const std::string name = "path " + to.target;
  sockaddr_un local{.sun_family = AF_UNIX};
  if (to.target.size() >= sizeof local.sun_path)
    return {
        {name, Verdict::no,
         "is longer than a socket's path may be (" + std::to_string(sizeof local.sun_path - 1) + " bytes)",
         "choose a shorter path"}};
  struct stat found {};
  if (::stat(to.target.c_str(), &found) != 0) {
    const std::string folder = std::filesystem::path(to.target).parent_path().string();
    if (::access(folder.empty() ? "." : folder.c_str(), W_OK) != 0)
      return {{name, Verdict::no, "no socket can be made there: " + why(errno),
               "mkdir -p " + folder + ", or choose another path"}};
    return {{name, Verdict::no, "nobody listens: there is no such socket", how_to_start(to)}};
  }
  if (!S_ISSOCK(found.st_mode)) return {{name, Verdict::no, "is not a socket", "choose another path"}};
  to.target.copy(local.sun_path, sizeof local.sun_path - 1);
  Address address{.length = sizeof local};
  std::memcpy(&address.storage, &local, sizeof local);
  return {{name, Verdict::yes, "is a socket", {}}, check_connect(to, address, deadline)};
}

}  // namespace

std::vector<Check> examine_way(const SystemFiles& files, const Endpoint& to, Deadline deadline) {
  return to.scheme == "unix" ? examine_path(to, deadline) : examine_host(files, to, deadline);
}

}  // namespace ramferry::tcp
