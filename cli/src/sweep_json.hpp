// SPDX-License-Identifier: MIT
// A sweep's report as the monitor tells it.
#pragma once

#include "vm/sweep.hpp"

#include <nlohmann/json_fwd.hpp>

#include <optional>

namespace ramferry::cli {

/// {"status": "none" | "sweeping" | "done", …}
nlohmann::json sweep_json(bool sweeping, const std::optional<vm::SweepReport>& report);

}  // namespace ramferry::cli
