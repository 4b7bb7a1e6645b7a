// SPDX-License-Identifier: MIT
// A migration for people's eyes: a progress line while it runs, a summary after it. From query-migrate's
// answer alone, so that a QEMU's looks the same as ours.
#pragma once

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <string>

namespace ramferry::cli {

/// "56 %  812 MiB/s  462 MiB left  dirty 98 MiB/s  downtime ~12 ms  round 3"
std::string progress_text(const nlohmann::json& info);
/// What is known of a completed migration, several lines. `destination` is its own answer, or null.
std::string summary_text(const nlohmann::json& source, const nlohmann::json& destination);

/// One line on a terminal, drawn again and again; elsewhere a plain line each second. One thread.
class ProgressBar {
 public:
  explicit ProgressBar(std::FILE* to, bool wanted = true);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void show(const nlohmann::json& info);
  /// Leaves the line as it was before.
  void clear();

 private:
  using SteadyClock = std::chrono::steady_clock;
  std::FILE* to_;
  bool wanted_, terminal_, drawn_ = false;
  SteadyClock::time_point next_line_{};
};

}  // namespace ramferry::cli
