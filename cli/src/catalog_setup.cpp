// SPDX-License-Identifier: MIT
// Reading this file tells what the program speaks.
#include "catalog_setup.hpp"

#include "features.hpp"
#include "slow_transport.hpp"

#include <ramferry/tcp/transport.hpp>
#if RAMFERRY_WITH_RDMA
#include <ramferry/rdma/transport.hpp>
#endif

#include <utility>

namespace ramferry::cli {

TransportCatalog make_catalog(Log& log, CatalogOptions options) {
  TransportCatalog catalog;
  catalog.add(slow_down(make_tcp_transport(log), options.slow_batches));
#if RAMFERRY_WITH_RDMA
  catalog.add(slow_down(make_rdma_transport(log), options.slow_batches));
#endif
  catalog.add(make_posix_transport(log, std::move(options.named)));
  return catalog;
}

}  // namespace ramferry::cli
