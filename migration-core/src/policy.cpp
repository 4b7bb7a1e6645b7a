// SPDX-License-Identifier: MIT
#include <ramferry/migration/policy.hpp>

#include <algorithm>
#include <limits>

namespace ramferry::migration {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr std::size_t kRoundsToJudge = 4;
constexpr double kScattered = 2.0;

std::uint64_t window_bytes(std::uint64_t bytes_per_second) noexcept {
  constexpr std::uint64_t kWindowsPerSecond = std::chrono::seconds(1) / RateLimiter::kWindow;
  return std::max<std::uint64_t>(1, bytes_per_second / kWindowsPerSecond);
}

}  // namespace

std::uint64_t switchover_bytes(const Outlook& outlook) noexcept {
  const Nanoseconds overhead = std::min(outlook.overhead, outlook.downtime_limit / 2);
  const double bytes = outlook.bytes_per_second * Seconds(outlook.downtime_limit - overhead).count();
  if (!(bytes > 0)) return 0;
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  return bytes >= static_cast<double>(kMost) ? kMost : static_cast<std::uint64_t>(bytes);
}

Verdict judge(const Outlook& outlook) noexcept {
  if (!outlook.finishable) return Verdict::another_round;
  return outlook.pending_bytes <= switchover_bytes(outlook) ? Verdict::switch_over : Verdict::another_round;
}

double bandwidth_after(unsigned round, double measured) noexcept {
  return round <= 2 ? measured / kScattered : measured;
}

Nanoseconds expected_downtime(const Outlook& outlook) noexcept {
  if (!(outlook.bytes_per_second > 0)) return outlook.downtime_limit;
  const Seconds sending(static_cast<double>(outlook.pending_bytes) / outlook.bytes_per_second);
  constexpr Seconds kMost = std::chrono::hours(24 * 365);
  return outlook.overhead + std::chrono::duration_cast<Nanoseconds>(std::min(sending, kMost));
}

bool is_converging(std::span<const RoundReport> rounds) noexcept {
  if (rounds.size() < kRoundsToJudge) return true;
  const auto last = rounds.last(kRoundsToJudge);
  for (std::size_t i = 1; i < last.size(); ++i) {
    if (last[i].dirty_pages < last[i - 1].dirty_pages) return true;
  }
  return last.back().dirty_pages == 0;
}

std::optional<unsigned> AutoConverge::next(std::uint64_t dirty_bytes, std::uint64_t sent_bytes,
                                           const Throttling& throttling) noexcept {
  constexpr unsigned kRoundsPerStep = 2;
  const unsigned before = percent_;
  if (!throttling.on) {
    percent_ = in_a_row_ = 0;
    return before == 0 ? std::nullopt : std::optional(0U);
  }
  const bool too_fast =
      static_cast<double>(dirty_bytes) * 100 > static_cast<double>(sent_bytes) * throttling.trigger;
  in_a_row_ = too_fast ? in_a_row_ + 1 : 0;
  if (in_a_row_ < kRoundsPerStep) return std::nullopt;
  in_a_row_ = 0;
  percent_ = std::min(before == 0 ? throttling.initial : before + throttling.increment, throttling.most);
  return percent_ == before ? std::nullopt : std::optional(percent_);
}

void BandwidthMeter::add(std::uint64_t bytes, Nanoseconds sending) noexcept {
  bytes_ += bytes;
  sending_ += sending;
  if (sending_ < kWindow) return;
  if (bytes_ >= kLeastBytes) {
    window_before_ = last_window_;
    last_window_ = static_cast<double>(bytes_) / Seconds(sending_).count();
  }
  bytes_ = 0;
  sending_ = {};
}

double BandwidthMeter::bytes_per_second() const noexcept {
  if (window_before_ > 0) return std::min(last_window_, window_before_);
  if (last_window_ > 0) return last_window_;
  if (bytes_ < kLeastBytes || sending_ <= Nanoseconds::zero()) return 0;
  return static_cast<double>(bytes_) / Seconds(sending_).count();
}

std::uint64_t RateLimiter::allowance(std::uint64_t bytes_per_second, Clock::Time now) noexcept {
  if (bytes_per_second == 0) {
    balance_ = 0;
    rate_ = 0;
    return std::numeric_limits<std::uint64_t>::max();
  }
  if (bytes_per_second != rate_ || window_ == Clock::Time{}) {
    rate_ = bytes_per_second;
    window_ = now;
    balance_ = static_cast<std::int64_t>(window_bytes(rate_));
  }
  const auto windows = (now - window_) / kWindow;
  if (windows > 0) {
    window_ += windows * kWindow;
    const auto grant = static_cast<std::int64_t>(window_bytes(rate_));
    const std::int64_t debt = std::min<std::int64_t>(balance_, 0);
    // Several windows may have passed while one large piece was sent: each pays its part.
    balance_ = std::min<std::int64_t>(debt + grant * (windows - 1), 0) + grant;
  }
  return balance_ > 0 ? static_cast<std::uint64_t>(balance_) : 0;
}

}  // namespace ramferry::migration
