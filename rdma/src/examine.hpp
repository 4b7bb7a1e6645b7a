// SPDX-License-Identifier: MIT
// What of RDMA works on this machine, and on the way to a peer: the checks of `ramferry doctor`.
//
// What the kernel tells in files is read from SystemFiles, and what only libibverbs tells comes as
// DeviceReports: so every finding can be tested without a device. Only examine_way() touches the network.
#pragma once

#include "options.hpp"

#include <ramferry/check.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/system_files.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ramferry::rdma {

/// What libibverbs tells about a device.
struct DeviceReport {
  struct Port {
    std::uint32_t mtu = 0;  ///< bytes of payload in a packet
  };
  std::string name;
  std::string problem;  ///< why it could not be asked; empty if it was
  std::uint64_t max_region_bytes = 0;
  std::uint64_t max_regions = 0, max_queue_pairs = 0, max_queue_depth = 0;
  bool pages_on_demand = false;  ///< regions need not be pinned (ODP)
  std::vector<Port> ports;       ///< port 1 first
};
std::vector<DeviceReport> ask_devices();

Check examine_modules(const SystemFiles& files);
std::vector<Check> examine_devices(const SystemFiles& files, std::span<const DeviceReport> reports);
std::vector<Check> examine_pinning(const SystemFiles& files, Pin pin);
/// All of these.
std::vector<Check> examine_machine(const SystemFiles& files, std::span<const DeviceReport> reports, Pin pin);

/// Resolve, route and connect; or, for an endpoint without a host, whether it can be listened on.
std::vector<Check> examine_way(const SystemFiles& files, const Endpoint& to, const Options& options,
                               Deadline deadline);

/// What Transport::examine() returns for rdma:.
std::vector<Check> examine(const SystemFiles& files, const Endpoint* to);

/// One entry of a port's table of addresses.
struct Gid {
  unsigned index = 0;
  std::string address;    ///< as users write it: "10.0.0.7", "fe80::1"
  std::string type;       ///< "RoCE v2", "IB/RoCE v1"
  std::string interface;  ///< "eth0"; empty on InfiniBand
  bool link_local() const noexcept { return address.starts_with("fe80:"); }
};
/// The entries in use.
std::vector<Gid> read_gids(const SystemFiles& files, const std::string& device, unsigned port);

/// The commands that make a software device on this machine, or why that cannot be.
std::string how_to_get_a_device(const SystemFiles& files);
/// The same for the connection manager, which a machine with a device may lack as well.
std::string how_to_get_a_connection_manager(const SystemFiles& files);

}  // namespace ramferry::rdma
