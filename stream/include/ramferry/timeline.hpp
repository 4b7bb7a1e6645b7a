// SPDX-License-Identifier: MIT
// The debug timeline: one line for each step of a migration, the same at both ends, so that the two can be
// laid beside each other. Any thread.
#pragma once

#include <ramferry/clock.hpp>
#include <ramferry/log.hpp>

#include <string_view>

namespace ramferry {

/// Writes "`of` step=`name` at_us=…", microseconds of `clock`; nothing unless `log` wants debug lines.
void log_step(Log& log, const Clock& clock, std::string_view of, std::string_view name);

}  // namespace ramferry
