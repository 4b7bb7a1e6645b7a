// SPDX-License-Identifier: MIT
#include "stall.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace ramferry::cli {
namespace {

constexpr std::array<std::string_view, 5> kPhases = {"setup", "active", "switchover", "prepared",
                                                     "committed"};

}  // namespace

Result<StallPhase> parse_stall_phase(std::string_view text) {
  const auto at = std::find(kPhases.begin(), kPhases.end(), text);
  if (at == kPhases.end())
    return fail(errc::invalid_argument, "reading the phase '" + std::string(text) + "'",
                "use setup, active, switchover, prepared or committed");
  return static_cast<StallPhase>(at - kPhases.begin());
}

std::string_view to_string(StallPhase phase) noexcept {
  return kPhases[static_cast<std::size_t>(phase)];
}

void Stall::reach(StallPhase phase) {
  std::unique_lock lock(mutex_);
  if (armed_ != phase || released_) return;
  if (when_held_) when_held_(phase);
  changed_.wait(lock, [this] { return released_; });
}

void Stall::release() {
  const std::lock_guard lock(mutex_);
  released_ = true;
  changed_.notify_all();
}

}  // namespace ramferry::cli
