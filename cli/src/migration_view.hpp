// SPDX-License-Identifier: MIT
// A migration for people's eyes: a progress line while it runs, a summary after it. From query-migrate's
// answer alone, so that a QEMU's looks the same as ours.
#pragma once

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

namespace ramferry::cli {

/// How fast a migration sends, from one look at it to the next: the bytes that went between two looks that
/// are half a second apart, by the VM's own clock. Not what the link could do, which the VM estimates.
class TransferRate {
 public:
  /// Bytes per second.
  double look(const nlohmann::json& info);

 private:
  double seconds_ = 0, bytes_ = 0;  ///< of the look that the next is compared with
  std::optional<double> rate_;
};

/// "56 %  812 MiB/s  462 MiB left  dirty 98 MiB/s  downtime ~12 ms  round 3". Without `bytes_per_second` the
/// average since the migration began.
std::string progress_text(const nlohmann::json& info, std::optional<double> bytes_per_second = {});
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
  TransferRate rate_;
};

}  // namespace ramferry::cli
