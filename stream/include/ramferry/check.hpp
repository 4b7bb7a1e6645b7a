// SPDX-License-Identifier: MIT
// Findings about this machine, for people and programs: what `ramferry doctor` prints.
#pragma once

#include <ramferry/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace ramferry {

struct Check {
  enum class Verdict : std::uint8_t {
    yes,   ///< works
    no,    ///< does not, and something that a user may want depends on it
    note,  ///< stands in nobody's way; worth knowing, or could be better
  };
  std::string name;  ///< what was looked at: "path MTU of rxe0"
  Verdict verdict = Verdict::note;
  std::string value;  ///< what was found
  std::string fix;    ///< the exact command, or the next step; a `no` always has one
};

/// "yes", "no", "note".
std::string_view to_string(Check::Verdict verdict) noexcept;

/// The outcome of trying something: `yes` with `value`, or `no` with what the error says and advises.
Check to_check(std::string name, const Result<>& outcome, std::string value = {});

}  // namespace ramferry
