// SPDX-License-Identifier: MIT
// When to switch over, and how fast to send. Pure arithmetic: no threads, no clock but the times it is given.
#pragma once

#include <ramferry/clock.hpp>
#include <ramferry/migration/outgoing.hpp>
#include <ramferry/migration/status.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>

namespace ramferry::migration {

/// All that the verdict depends on.
struct Outlook {
  std::uint64_t pending_bytes = 0;  ///< what a switchover would have to send now
  bool finishable = true;           ///< see Pending
  double bytes_per_second = 0;      ///< 0 = not known yet
  Nanoseconds downtime_limit{};
  Nanoseconds overhead{};  ///< part of the downtime that does not depend on pending_bytes
};

enum class Verdict : std::uint8_t { another_round, switch_over };

/// Switch over when what is pending fits into the downtime limit; never while a first pass is not over. The
/// overhead counts for at most half of the limit, so that a small limit can be met at all.
Verdict judge(const Outlook& outlook) noexcept;
/// The most bytes that `judge` lets a switchover have.
std::uint64_t switchover_bytes(const Outlook& outlook) noexcept;
/// What a switchover may count on after `round` rounds, of what the link was measured to move. The first pass
/// goes in long runs and leaves single pages, for which a link may take twice as long (measured:
/// 1.9); the rounds after it have measured that.
double bandwidth_after(unsigned round, double measured) noexcept;
/// What the downtime would be now; the limit itself while nothing is known.
Nanoseconds expected_downtime(const Outlook& outlook) noexcept;
/// Whether the last rounds found ever as many dirty pages as the one before: the guest writes faster than the
/// link.
bool is_converging(std::span<const RoundReport> rounds) noexcept;

/// Slows the guest down step by step while it dirties memory faster than the link takes it.
class AutoConverge {
 public:
  /// After each round: the guest dirtied `dirty_bytes` while `sent_bytes` of its memory were sent. Two rounds
  /// in a row that dirtied more than the trigger's share of what they sent are one step. The new percentage
  /// if it changes; with throttling off, 0 if it was not.
  std::optional<unsigned> next(std::uint64_t dirty_bytes, std::uint64_t sent_bytes,
                               const Throttling& throttling) noexcept;
  unsigned percent() const noexcept { return percent_; }

 private:
  unsigned percent_ = 0, in_a_row_ = 0;
};

/// How fast the link takes bytes while there is something to send: the slower of the last two whole windows,
/// or all so far before there is one.
class BandwidthMeter {
 public:
  static constexpr Nanoseconds kWindow = std::chrono::milliseconds(100);
  static constexpr std::uint64_t kLeastBytes = 10'000;  ///< a window that moved fewer says nothing

  void add(std::uint64_t bytes, Nanoseconds sending) noexcept;
  double bytes_per_second() const noexcept;

 private:
  std::uint64_t bytes_ = 0;
  Nanoseconds sending_{};
  double last_window_ = 0, window_before_ = 0;
};

/// Keeps the bytes sent in each 100 ms window to a hundred milliseconds' worth. What one window overdrew the
/// next ones pay back; what was not used is lost.
class RateLimiter {
 public:
  static constexpr Nanoseconds kWindow = std::chrono::milliseconds(100);

  /// How much may be sent now at `bytes_per_second` (0 = no limit); 0 = wait until next_window().
  std::uint64_t allowance(std::uint64_t bytes_per_second, Clock::Time now) noexcept;
  void spend(std::uint64_t bytes) noexcept { balance_ -= static_cast<std::int64_t>(bytes); }
  Clock::Time next_window() const noexcept { return window_ + kWindow; }

 private:
  Clock::Time window_{};
  std::uint64_t rate_ = 0;
  std::int64_t balance_ = 0;
};

}  // namespace ramferry::migration
