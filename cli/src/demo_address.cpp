// SPDX-License-Identifier: MIT
#include "demo_address.hpp"

#include "command.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <system_error>

namespace ramferry::cli {
namespace {

namespace fs = std::filesystem;

/// The network interfaces behind this machine's RDMA devices.
std::set<std::string> rdma_interfaces() {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& device : fs::directory_iterator("/sys/class/infiniband", ignored)) {
    for (const auto& port : fs::directory_iterator(device.path() / "ports", ignored)) {
      std::ifstream file(port.path() / "gid_attrs/ndevs/0");
      std::string name;
      if (file >> name) names.insert(name);
    }
  }
  return names;
}

Result<std::string> rdma_host() {
  const std::set<std::string> interfaces = rdma_interfaces();
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) list = nullptr;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET ||
        interfaces.count(each->ifa_name) == 0)
      continue;
    char text[INET_ADDRSTRLEN];
    const auto* address = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
    if (inet_ntop(AF_INET, &address->sin_addr, text, sizeof text) != nullptr) return std::string(text);
  }
  return said(
      errc::not_found, "no RDMA device with an IPv4 address",
      "`ramferry doctor` says what is missing; `./dev demo --transport rdma` runs it in a guest that has "
      "one");
}

}  // namespace

Result<std::string> demo_address(const std::string& transport, const std::string& host,
                                 const std::string& directory) {
  if (transport == "unix") return "unix:" + directory + "/migration.sock";
  std::string at = host;
  if (at.empty() && transport == "tcp") at = "127.0.0.1";
  if (at.empty()) {
    RAMFERRY_TRY_ASSIGN(at, rdma_host());
  }
  return transport + ":" + at + ":0";
}

}  // namespace ramferry::cli
