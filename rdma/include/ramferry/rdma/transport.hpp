// SPDX-License-Identifier: MIT
// rdma: over libibverbs and librdmacm.
#pragma once

#include <ramferry/transport.hpp>

#include <memory>

namespace ramferry {

/// Speaks `rdma:host:port`. Strict: what was asked for is had by RDMA, or is an error.
std::unique_ptr<Transport> make_rdma_transport(Log& log);

}  // namespace ramferry
