// SPDX-License-Identifier: MIT
// The transports that this program speaks.
#pragma once

#include <ramferry/log.hpp>
#include <ramferry/posix_transport.hpp>
#include <ramferry/transport.hpp>

#include <chrono>

namespace ramferry::cli {

struct CatalogOptions {
  NamedDescriptors named{};  ///< finds what fd:NAME stands for
  std::chrono::microseconds
      slow_batches{};  ///< for tests: wasted on each batch that is placed; see slow_transport.hpp
};

/// `log` outlives the catalogue and all that comes out of it.
TransportCatalog make_catalog(Log& log, CatalogOptions options = {});

}  // namespace ramferry::cli
