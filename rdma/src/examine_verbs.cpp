// SPDX-License-Identifier: MIT
// What only libibverbs tells about devices.
#include "examine.hpp"
#include "verbs.hpp"

#include <cerrno>
#include <system_error>

namespace ramferry::rdma {
namespace {

using DeviceListPtr = std::unique_ptr<ibv_device*, Destroy<ibv_free_device_list>>;
using ContextPtr = std::unique_ptr<ibv_context, Destroy<ibv_close_device>>;

std::string failure(const char* call, int error_number) {
  return std::string(call) + ": " + std::generic_category().message(error_number);
}

std::vector<DeviceReport::Port> ask_ports(ibv_context* context, std::uint8_t count) {
  std::vector<DeviceReport::Port> ports(count);
  for (std::uint8_t at = 0; at < count; ++at) {
    ibv_port_attr port{};
    if (ibv_query_port(context, static_cast<std::uint8_t>(at + 1), &port) == 0 &&
        port.active_mtu >= IBV_MTU_256)
      ports[at].mtu = 128U << port.active_mtu;
  }
  return ports;
}

DeviceReport ask_device(ibv_device* device) {
  DeviceReport report{.name = ibv_get_device_name(device)};
  const ContextPtr context(ibv_open_device(device));
  if (!context) {
    report.problem = failure("ibv_open_device", errno);
    return report;
  }
  ibv_device_attr_ex found{};
  if (const int error = ibv_query_device_ex(context.get(), nullptr, &found); error != 0) {
    report.problem = failure("ibv_query_device", error);
    return report;
  }
  report.max_region_bytes = found.orig_attr.max_mr_size;
  report.max_regions = static_cast<std::uint64_t>(found.orig_attr.max_mr);
  report.max_queue_pairs = static_cast<std::uint64_t>(found.orig_attr.max_qp);
  report.max_queue_depth = static_cast<std::uint64_t>(found.orig_attr.max_qp_wr);
  report.pages_on_demand = (found.odp_caps.general_caps & IBV_ODP_SUPPORT) != 0 &&
                           (found.odp_caps.per_transport_caps.rc_odp_caps & IBV_ODP_SUPPORT_WRITE) != 0;
  report.ports = ask_ports(context.get(), found.orig_attr.phys_port_cnt);
  return report;
}

}  // namespace

std::vector<DeviceReport> ask_devices() {
  int count = 0;
  const DeviceListPtr devices(ibv_get_device_list(&count));
  std::vector<DeviceReport> reports;
  for (int at = 0; devices && at < count; ++at) reports.push_back(ask_device(devices.get()[at]));
  return reports;
}

}  // namespace ramferry::rdma
