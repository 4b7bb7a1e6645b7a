// SPDX-License-Identifier: MIT
#include "fabric_error.hpp"

#include <ramferry/error.hpp>

#include <string>

namespace ramferry::rdma {
namespace {

class FabricCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "rdma"; }

  std::string message(int value) const override {
    switch (static_cast<FabricErrc>(value)) {
      case FabricErrc::retry_exceeded: return "the peer does not acknowledge (transport retries exceeded)";
      case FabricErrc::receiver_not_ready: return "the peer had no receive posted (RNR retries exceeded)";
      case FabricErrc::flushed: return "the queue pair failed before this request ran";
      case FabricErrc::remote_access: return "the peer's device refused access to the memory";
      case FabricErrc::remote_operation: return "the peer's device failed the operation";
      case FabricErrc::local_protection: return "local memory is not registered for this";
      case FabricErrc::local_operation: return "the local device failed the operation";
      case FabricErrc::disconnected: return "the peer disconnected";
      case FabricErrc::rejected: return "the connection was refused";
      case FabricErrc::unreachable: return "the peer does not answer";
      case FabricErrc::no_device: return "no RDMA device leads to this address";
      case FabricErrc::device_removed: return "the RDMA device was removed";
      case FabricErrc::device_failed: return "the RDMA device failed";
    }
    return "unknown fabric error";
  }

  std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<FabricErrc>(value)) {
      case FabricErrc::retry_exceeded:
      case FabricErrc::receiver_not_ready:
      case FabricErrc::flushed:
      case FabricErrc::disconnected:
      case FabricErrc::rejected:
      case FabricErrc::unreachable: return errc::peer_gone;
      case FabricErrc::remote_access:
      case FabricErrc::remote_operation: return errc::peer_failed;
      case FabricErrc::no_device: return errc::not_found;
      case FabricErrc::local_protection:
      case FabricErrc::local_operation:
      case FabricErrc::device_removed:
      case FabricErrc::device_failed: break;
    }
    return errc::io;
  }
};

}  // namespace

std::error_code make_error_code(FabricErrc code) noexcept {
  static const FabricCategory category;
  return {static_cast<int>(code), category};
}

}  // namespace ramferry::rdma
