// SPDX-License-Identifier: MIT
// Reading this file tells what the program speaks.
#include "catalog_setup.hpp"

#include "features.hpp"
#include "slow_transport.hpp"

#include <ramferry/posix_transport.hpp>
#include <ramferry/tcp/transport.hpp>
#if RAMFERRY_WITH_RDMA
#include <ramferry/rdma/transport.hpp>
#endif

namespace ramferry::cli {

TransportCatalog make_catalog(Log& log, std::chrono::microseconds slow_batches) {
  TransportCatalog catalog;
  catalog.add(slow_down(make_tcp_transport(log), slow_batches));
#if RAMFERRY_WITH_RDMA
  catalog.add(slow_down(make_rdma_transport(log), slow_batches));
#endif
  catalog.add(make_posix_transport(log));
  return catalog;
}

}  // namespace ramferry::cli
