// SPDX-License-Identifier: MIT
// Devices and their ports: nodes, state, addresses, MTU, limits.
#include "examine.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstdlib>

namespace ramferry::rdma {
namespace {

using Verdict = Check::Verdict;

constexpr std::uint32_t kBestMtu = 4096;
// Ethernet carries packets of this many bytes more than their payload.
constexpr std::uint32_t kRoceHeaders = 80;
constexpr std::uint64_t kPlentyOfRegions = 4096;
constexpr std::uint64_t kLargeRegion = 1ULL << 30;
constexpr std::size_t kMostGidsShown = 6;

struct Port {
  std::string device, folder, interface;  ///< interface: "" on InfiniBand
  unsigned number = 1;
  bool ethernet = false;
  std::string name() const { return device + (number == 1 ? "" : " port " + std::to_string(number)); }
};

Port read_port(const SystemFiles& files, const std::string& device, const std::string& number) {
  Port port{.device = device, .folder = "/sys/class/infiniband/" + device + "/ports/" + number};
  port.number = static_cast<unsigned>(std::strtoul(number.c_str(), nullptr, 10));
  port.ethernet = files.line(port.folder + "/link_layer") == "Ethernet";
  port.interface = files.line("/sys/class/infiniband/" + device + "/parent").value_or("");
  for (const Gid& gid : read_gids(files, device, port.number))
    if (port.interface.empty()) port.interface = gid.interface;
  return port;
}

std::string interface_or_placeholder(const Port& port) {
  return port.interface.empty() ? "INTERFACE" : port.interface;
}

Check check_state(const SystemFiles& files, const Port& port) {
  const std::string name = "port of " + port.name();
  const std::string state = files.line(port.folder + "/state").value_or("unknown");
  const std::string found = state.substr(state.find(' ') == state.npos ? 0 : state.find(' ') + 1) + ", " +
                            files.line(port.folder + "/link_layer").value_or("unknown link layer") +
                            (port.interface.empty() ? "" : ", on " + port.interface);
  if (state.find("ACTIVE") != state.npos && state.find("DEFER") == state.npos)
    return {name, Verdict::yes, found, {}};
  if (port.ethernet && files.number("/sys/class/net/" + port.interface + "/carrier") == 0U)
    return {name, Verdict::no, found + ": no carrier", "plug the cable of " + port.interface + " in"};
  if (port.ethernet)
    return {name, Verdict::no, found, "ip link set " + interface_or_placeholder(port) + " up"};
  return {name, Verdict::no, found,
          "plug the cable in, and run a subnet manager on the fabric: apt-get install opensm"};
}

Check check_gids(const SystemFiles& files, const Port& port) {
  const std::string name = "GIDs of " + port.name();
  const auto gids = read_gids(files, port.device, port.number);
  std::string list;
  for (std::size_t at = 0; at < std::min(gids.size(), kMostGidsShown); ++at)
    list += (at == 0 ? "" : ", ") + std::to_string(gids[at].index) + " " + gids[at].address + " (" +
            gids[at].type + ")";
  if (gids.size() > kMostGidsShown) list += " and " + std::to_string(gids.size() - kMostGidsShown) + " more";
  const bool usable = !port.ethernet ? !gids.empty()
                                     : std::any_of(gids.begin(), gids.end(),
                                                   [](const Gid& gid) { return !gid.link_local(); });
  if (usable) return {name, Verdict::yes, list, {}};
  return {name, Verdict::no, list.empty() ? "none" : list + ": only link-local, no address to listen on",
          port.ethernet ? "ip address add 10.0.0.1/24 dev " + interface_or_placeholder(port) +
                              " (an address of your network)"
                        : "run a subnet manager on the fabric: apt-get install opensm"};
}

Check check_mtu(const SystemFiles& files, const Port& port, std::uint32_t mtu) {
  const std::string name = "path MTU of " + port.name();
  const auto interface_mtu =
      port.interface.empty() ? std::nullopt : files.number("/sys/class/net/" + port.interface + "/mtu");
  std::string found = std::to_string(mtu) + " bytes";
  if (interface_mtu) found += " (MTU of " + port.interface + ": " + std::to_string(*interface_mtu) + ")";
  if (mtu >= kBestMtu) return {name, Verdict::yes, found, {}};
  if (!port.ethernet) return {name, Verdict::note, found + "; 4096 costs less CPU and bandwidth", {}};
  return {name, Verdict::note,
          found + "; 4096 costs less CPU and bandwidth, and needs an MTU of " +
              std::to_string(kBestMtu + kRoceHeaders) + " on the whole way",
          "ip link set " + interface_or_placeholder(port) + " mtu 9000"};
}

Check check_limits(const DeviceReport& report) {
  const std::string region =
      report.max_region_bytes >= 1ULL << 60 ? "any size" : format_size(report.max_region_bytes);
  std::string found = "regions of " + region + ", " + std::to_string(report.max_regions) + " of them; " +
                      std::to_string(report.max_queue_pairs) + " queue pairs of " +
                      std::to_string(report.max_queue_depth) + " requests";
  const bool small = report.max_region_bytes < kLargeRegion || report.max_regions < kPlentyOfRegions;
  if (small) found += "; guests larger than regions x size need pin=demand";
  return {"limits of " + report.name, small ? Verdict::note : Verdict::yes, found, {}};
}

/// The files by which programs reach the kernel.
Check check_node(const SystemFiles& files, const std::string& node, std::string_view module) {
  const std::string name = "node " + node;
  if (!files.exists(node))
    return {name, Verdict::no, "does not exist",
            "modprobe " + std::string(module) + "; in a container, start it with --device=/dev/infiniband"};
  if (!files.may_open(node))
    return {
        name, Verdict::no, "may not be opened by this user",
        "chmod a+rw " + node + " (as root; to keep it: apt-get install rdma-core, which has the udev rule)"};
  return {name, Verdict::yes, "may be opened", {}};
}

std::vector<Check> check_nodes(const SystemFiles& files) {
  std::vector<Check> checks = {check_node(files, "/dev/infiniband/rdma_cm", "rdma_ucm")};
  const auto nodes = files.list("/sys/class/infiniband_verbs");
  bool any = false;
  for (const std::string& each : nodes) {
    if (!each.starts_with("uverbs")) continue;
    checks.push_back(check_node(files, "/dev/infiniband/" + each, "ib_uverbs"));
    any = true;
  }
  if (!any) checks.push_back(check_node(files, "/dev/infiniband/uverbs0", "ib_uverbs"));
  return checks;
}

std::vector<Check> check_device(const SystemFiles& files, const std::string& device,
                                std::span<const DeviceReport> reports) {
  std::vector<Check> checks;
  const auto report = std::find_if(reports.begin(), reports.end(),
                                   [&](const DeviceReport& each) { return each.name == device; });
  const bool answered = report != reports.end() && report->problem.empty();
  for (const std::string& number : files.list("/sys/class/infiniband/" + device + "/ports")) {
    const Port port = read_port(files, device, number);
    checks.push_back(check_state(files, port));
    checks.push_back(check_gids(files, port));
    if (answered && port.number >= 1 && port.number <= report->ports.size())
      checks.push_back(check_mtu(files, port, report->ports[port.number - 1].mtu));
  }
  if (!answered) {
    checks.push_back(
        {"verbs of " + device, Verdict::no,
         report == reports.end() ? "libibverbs does not find it" : report->problem,
         "apt-get install ibverbs-providers; the node of the device must be accessible, see above"});
    return checks;
  }
  checks.push_back(check_limits(*report));
  checks.push_back({"on-demand paging of " + device,
                    Verdict::note,
                    report->pages_on_demand ? "offered; not used yet: memory is pinned"
                                            : "not offered: registered memory is pinned",
                    {}});
  return checks;
}

/// "0000:…:ffff:0a00:0007" → "10.0.0.7"; empty for an entry that is not in use.
std::string to_address(const std::string& gid) {
  in6_addr bytes{};
  if (::inet_pton(AF_INET6, gid.c_str(), &bytes) != 1 || IN6_IS_ADDR_UNSPECIFIED(&bytes)) return {};
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (IN6_IS_ADDR_V4MAPPED(&bytes))
    ::inet_ntop(AF_INET, &bytes.s6_addr[12], text.data(), text.size());
  else
    ::inet_ntop(AF_INET6, &bytes, text.data(), text.size());
  return text.data();
}

}  // namespace

std::vector<Gid> read_gids(const SystemFiles& files, const std::string& device, unsigned port) {
  const std::string folder = "/sys/class/infiniband/" + device + "/ports/" + std::to_string(port);
  std::vector<Gid> found;
  for (const std::string& index : files.list(folder + "/gids")) {
    Gid gid{.index = static_cast<unsigned>(std::strtoul(index.c_str(), nullptr, 10))};
    gid.address = to_address(files.line(folder + "/gids/" + index).value_or(""));
    if (gid.address.empty()) continue;
    gid.type = files.line(folder + "/gid_attrs/types/" + index).value_or("type unknown");
    gid.interface = files.line(folder + "/gid_attrs/ndevs/" + index).value_or("");
    found.push_back(std::move(gid));
  }
  return found;
}

std::vector<Check> examine_devices(const SystemFiles& files, std::span<const DeviceReport> reports) {
  const auto devices = files.list("/sys/class/infiniband");
  if (devices.empty()) return {{"device", Verdict::no, "there is none", how_to_get_a_device(files)}};
  std::vector<Check> checks = check_nodes(files);
  for (const std::string& device : devices)
    for (Check& each : check_device(files, device, reports)) checks.push_back(std::move(each));
  return checks;
}

}  // namespace ramferry::rdma
