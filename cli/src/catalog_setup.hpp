// SPDX-License-Identifier: MIT
// The transports that this program speaks.
#pragma once

#include <ramferry/log.hpp>
#include <ramferry/transport.hpp>

namespace ramferry::cli {

/// `log` outlives the catalogue and all that comes out of it.
TransportCatalog make_catalog(Log& log);

}  // namespace ramferry::cli
