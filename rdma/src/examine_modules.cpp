// SPDX-License-Identifier: MIT
// Kernel modules, and the commands that turn a network interface into an RDMA device.
#include "examine.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace ramferry::rdma {
namespace {

constexpr std::string_view kNewKernel =
    "boot a kernel that has them: apt-get install linux-image-amd64 (Debian), "
    "apt-get install linux-modules-extra-$(uname -r) (Ubuntu)";
constexpr std::string_view kGuest =
    "./dev soft-roce COMMAND (in ramferry's source tree) runs COMMAND in a guest that has one";
constexpr std::array<std::string_view, 3> kModules = {"ib_uverbs", "rdma_ucm", "rdma_rxe"};
constexpr std::uint64_t kInterfaceMtu = 4176;  // 4096 bytes of payload, and headers
constexpr std::string_view kSoftRoce = "rdma_rxe";

enum class Presence { loaded, available, missing };

std::string kernel_release(const SystemFiles& files) {
  return files.line("/proc/sys/kernel/osrelease").value_or("unknown");
}

bool lists_module(const SystemFiles& files, std::string_view list, std::string_view module) {
  const std::string path = "/lib/modules/" + kernel_release(files) + '/' + std::string(list);
  return files.text(path).value_or("").find('/' + std::string(module) + ".ko") != std::string::npos;
}

Presence find_module(const SystemFiles& files, std::string_view module) {
  if (files.exists("/sys/module/" + std::string(module)) || lists_module(files, "modules.builtin", module))
    return Presence::loaded;
  return lists_module(files, "modules.dep", module) ? Presence::available : Presence::missing;
}

/// The Ethernet interface that packets leave by, else the first that is up.
std::optional<std::string> main_interface(const SystemFiles& files) {
  const std::string routes = files.text("/proc/net/route").value_or("");
  for (std::size_t start = 0; start < routes.size();) {
    const std::size_t end = std::min(routes.find('\n', start), routes.size());
    const auto words = words_of(std::string_view(routes).substr(start, end - start));
    if (words.size() > 1 && words[1] == "00000000") return words[0];
    start = end + 1;
  }
  for (const std::string& name : files.list("/sys/class/net")) {
    const std::string folder = "/sys/class/net/" + name;
    const bool ethernet = files.number(folder + "/type") == 1U;  // ARPHRD_ETHER
    if (ethernet && files.line(folder + "/operstate") == "up") return name;
  }
  return std::nullopt;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

}  // namespace

std::string how_to_get_a_device(const SystemFiles& files) {
  std::string commands;
  const auto then = [&](const std::string& command) {
    commands += (commands.empty() ? "" : " && ") + command;
  };
  std::vector<std::string> to_load;
  for (const std::string_view module : kModules) {
    const Presence presence = find_module(files, module);
    if (presence == Presence::missing)
      return "not on this kernel: `modinfo " + std::string(module) + "` finds none. " + std::string(kGuest);
    if (presence == Presence::available) to_load.emplace_back(module);
  }
  if (!to_load.empty()) then("modprobe -a " + joined(to_load));
  auto interface = main_interface(files);
  if (!interface) {
    interface = "rdma-net";
    then("ip link add rdma-net type dummy");
    then("ip address add 198.18.0.1/24 dev rdma-net");
    then("ip link set rdma-net up");
  }
  const bool small = files.number("/sys/class/net/" + *interface + "/mtu").value_or(1500) < kInterfaceMtu;
  if (small) then("ip link set " + *interface + " mtu 9000");
  then("rdma link add rxe0 type rxe netdev " + *interface);
  return commands +
         (small ? " (as root; without the mtu where the network carries no jumbo frames)" : " (as root)");
}

std::string how_to_get_a_connection_manager(const SystemFiles& files) {
  return find_module(files, "rdma_ucm") == Presence::missing ? how_to_get_a_device(files)
                                                             : "modprobe rdma_ucm";
}

Check examine_modules(const SystemFiles& files) {
  // Soft-RoCE matters where there is nothing better.
  const bool has_device = !files.list("/sys/class/infiniband").empty();
  std::vector<std::string> loaded, to_load, missing;
  for (const std::string_view module : kModules) {
    const Presence presence = find_module(files, module);
    if (presence != Presence::loaded && module == kSoftRoce && has_device) continue;
    auto& where = presence == Presence::loaded ? loaded : presence == Presence::available ? to_load : missing;
    where.emplace_back(module);
  }
  const std::string name = "kernel modules";
  if (!missing.empty())
    return {name, Check::Verdict::no,
            "this kernel (" + kernel_release(files) + ") has no " + joined(missing) + ": modinfo finds none",
            std::string(kNewKernel)};
  if (!to_load.empty())
    return {name, Check::Verdict::no, "not loaded: " + joined(to_load), "modprobe -a " + joined(to_load)};
  return {name, Check::Verdict::yes, "loaded: " + joined(loaded), {}};
}

}  // namespace ramferry::rdma
