// SPDX-License-Identifier: MIT
// Drives a migration from outside by QMP: starts it, watches it, cancels it when the user says so.
#pragma once

#include "qmp_client.hpp"
#include "signals.hpp"

#include <ramferry/error.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace ramferry::cli {

struct MigrationOrder {
  std::string uri;
  std::vector<std::string> settings;  ///< NAME=VALUE: parameters and capabilities
  bool show_progress = true;
};

/// The last answer of query-migrate once the migration is over, however it ended. An error: it did not begin,
/// or the VM cannot be reached any more. A signal cancels it; a second one gives up watching
/// (errc::cancelled).
Result<nlohmann::json> drive_migration(QmpClient& vm, const MigrationOrder& order, StopSignals& signals);

/// query-migrate's answer as a result: why it did not complete, with the next step.
Result<> outcome(const nlohmann::json& info);

}  // namespace ramferry::cli
