// SPDX-License-Identifier: MIT
// The transports that this program speaks.
#pragma once

#include <ramferry/log.hpp>
#include <ramferry/transport.hpp>

#include <chrono>

namespace ramferry::cli {

/// `log` outlives the catalogue and all that comes out of it. `slow_batches`, for tests: wasted on each batch
/// that is placed; see slow_transport.hpp.
TransportCatalog make_catalog(Log& log, std::chrono::microseconds slow_batches = {});

}  // namespace ramferry::cli
