// SPDX-License-Identifier: MIT
#include <ramferry/check.hpp>

#include <utility>

namespace ramferry {

std::string_view to_string(Check::Verdict verdict) noexcept {
  switch (verdict) {
    case Check::Verdict::yes: return "yes";
    case Check::Verdict::no: return "no";
    case Check::Verdict::note: break;
  }
  return "note";
}

Check to_check(std::string name, const Result<>& outcome, std::string value) {
  if (outcome) return {std::move(name), Check::Verdict::yes, std::move(value), {}};
  Error why = outcome.error();
  std::string fix = std::exchange(why.advice, {});
  return {std::move(name), Check::Verdict::no, why.message(), std::move(fix)};
}

}  // namespace ramferry
