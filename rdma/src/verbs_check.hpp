// SPDX-License-Identifier: MIT
// rdma-core has four ways of saying that a call failed. One checker for each, named after it, so that a call
// site shows which one applies.
#pragma once

#include "fabric_error.hpp"

#include <ramferry/error.hpp>

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

namespace ramferry::rdma {

/// NULL and errno: ibv_alloc_pd, ibv_create_cq, ibv_reg_mr, rdma_create_event_channel, …
template <class T>
Result<T*> check_pointer(T* object, std::string doing) {
  if (object == nullptr) return fail_errno(errno, std::move(doing));
  return object;
}

/// A positive errno: ibv_query_*, ibv_modify_qp, ibv_req_notify_cq, …
inline Result<> check_verb(int error_number, std::string doing) {
  if (error_number != 0) return fail_errno(error_number, std::move(doing));
  return {};
}

/// An errno that is positive, or with older providers negative: ibv_post_*.
inline std::error_code posting_error(int error_number) noexcept {
  return {error_number < 0 ? -error_number : error_number, std::generic_category()};
}

/// -1 and errno: all of rdma_*.
inline Result<> check_cm(int result, std::string doing) {
  if (result != 0) return fail_errno(errno, std::move(doing));
  return {};
}

/// A negative count: ibv_poll_cq.
inline Result<std::size_t> check_poll(int count, std::string doing) {
  if (count < 0) return fail(FabricErrc::device_failed, std::move(doing));
  return static_cast<std::size_t>(count);
}

/// What a work completion's status means.
inline std::error_code to_error_code(ibv_wc_status status) noexcept {
  switch (status) {
    case IBV_WC_SUCCESS: return {};
    case IBV_WC_RETRY_EXC_ERR:
    case IBV_WC_RESP_TIMEOUT_ERR: return FabricErrc::retry_exceeded;
    case IBV_WC_RNR_RETRY_EXC_ERR: return FabricErrc::receiver_not_ready;
    case IBV_WC_WR_FLUSH_ERR: return FabricErrc::flushed;
    case IBV_WC_REM_ACCESS_ERR: return FabricErrc::remote_access;
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_ABORT_ERR: return FabricErrc::remote_operation;
    case IBV_WC_LOC_PROT_ERR:
    case IBV_WC_LOC_ACCESS_ERR: return FabricErrc::local_protection;
    case IBV_WC_FATAL_ERR: return FabricErrc::device_failed;
    default: return FabricErrc::local_operation;
  }
}

/// What a connection-manager event means for the connection it is about; none for good news.
inline std::error_code to_error_code(rdma_cm_event_type event) noexcept {
  switch (event) {
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE: return FabricErrc::unreachable;
    case RDMA_CM_EVENT_REJECTED: return FabricErrc::rejected;
    case RDMA_CM_EVENT_CONNECT_ERROR: return FabricErrc::local_operation;
    case RDMA_CM_EVENT_DISCONNECTED: return FabricErrc::disconnected;
    case RDMA_CM_EVENT_DEVICE_REMOVAL: return FabricErrc::device_removed;
    default: return {};
  }
}

}  // namespace ramferry::rdma
