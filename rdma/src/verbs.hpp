// SPDX-License-Identifier: MIT
// One owner for each verbs and connection-manager object. Members of a class that holds several are declared
// in the order of making, so that they are destroyed in reverse.
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <memory>

namespace ramferry::rdma {

/// Calls a C destructor; its result is of no use to anybody by then.
template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* object) const noexcept {
    static_cast<void>(kDestroy(object));
  }
};

using EventChannelPtr = std::unique_ptr<rdma_event_channel, Destroy<rdma_destroy_event_channel>>;
using CmIdPtr = std::unique_ptr<rdma_cm_id, Destroy<rdma_destroy_id>>;
using CmEventPtr = std::unique_ptr<rdma_cm_event, Destroy<rdma_ack_cm_event>>;
using ProtectionDomainPtr = std::unique_ptr<ibv_pd, Destroy<ibv_dealloc_pd>>;
using CompletionChannelPtr = std::unique_ptr<ibv_comp_channel, Destroy<ibv_destroy_comp_channel>>;
using CompletionQueuePtr = std::unique_ptr<ibv_cq, Destroy<ibv_destroy_cq>>;
using MemoryRegionPtr = std::unique_ptr<ibv_mr, Destroy<ibv_dereg_mr>>;

}  // namespace ramferry::rdma
