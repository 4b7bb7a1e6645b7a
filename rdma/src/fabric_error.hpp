// SPDX-License-Identifier: MIT
// What can go wrong on a fabric, whoever provides it, as error codes that equal the shared conditions.
#pragma once

#include <cstdint>
#include <system_error>

namespace ramferry::rdma {

enum class FabricErrc : std::uint8_t {
  retry_exceeded = 1,  ///< nothing acknowledged: the peer or the way to it is gone
  receiver_not_ready,  ///< the peer never posted a receive for our send
  flushed,             ///< the queue pair was in error before this request ran
  remote_access,       ///< the peer's device refused the key, range or right
  remote_operation,    ///< the peer's device could not do it
  local_protection,    ///< our memory is not registered as the request needs
  local_operation,     ///< our device could not do it
  disconnected,        ///< the peer hung up
  rejected,            ///< nobody listens there, or who does refused us
  unreachable,         ///< no answer
  no_device,           ///< no RDMA device leads there
  device_removed,      ///< the device went away under us
  device_failed,       ///< the device reports a fatal error
};

std::error_code make_error_code(FabricErrc code) noexcept;

}  // namespace ramferry::rdma

template <>
struct std::is_error_code_enum<ramferry::rdma::FabricErrc> : std::true_type {};
