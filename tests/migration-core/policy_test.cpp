// SPDX-License-Identifier: MIT
#include <ramferry/migration/policy.hpp>

#include <gtest/gtest.h>

namespace ramferry::migration {
namespace {

using namespace std::chrono_literals;

constexpr double kGigabyte = 1e9;

struct Case {
  const char* name;
  Outlook outlook;
  Verdict verdict;
};

class Judge : public testing::TestWithParam<Case> {};

TEST_P(Judge, DecidesAsTheTableSays) {
  EXPECT_EQ(judge(GetParam().outlook), GetParam().verdict);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Judge,
    testing::Values(
        Case{"NothingPendingNothingKnown",
             {.pending_bytes = 0, .downtime_limit = 300ms},
             Verdict::switch_over},
        Case{"PendingButNothingKnown", {.pending_bytes = 1, .downtime_limit = 300ms}, Verdict::another_round},
        Case{
            "FirstPassNotOver",
            {.pending_bytes = 0, .finishable = false, .bytes_per_second = kGigabyte, .downtime_limit = 300ms},
            Verdict::another_round},
        Case{"FitsExactly",
             {.pending_bytes = 300'000'000, .bytes_per_second = kGigabyte, .downtime_limit = 300ms},
             Verdict::switch_over},
        Case{"OneByteTooMany",
             {.pending_bytes = 300'000'001, .bytes_per_second = kGigabyte, .downtime_limit = 300ms},
             Verdict::another_round},
        Case{"OverheadCounts",
             {.pending_bytes = 300'000'000,
              .bytes_per_second = kGigabyte,
              .downtime_limit = 300ms,
              .overhead = 1ms},
             Verdict::another_round},
        Case{"OverheadTakesHalfAtMost",
             {.pending_bytes = 150'000'000,
              .bytes_per_second = kGigabyte,
              .downtime_limit = 300ms,
              .overhead = 1h},
             Verdict::switch_over},
        Case{"NoDowntimeAllowed",
             {.pending_bytes = 1, .bytes_per_second = kGigabyte, .downtime_limit = 0ms},
             Verdict::another_round},
        Case{"NoDowntimeNeeded",
             {.pending_bytes = 0, .bytes_per_second = kGigabyte, .downtime_limit = 0ms},
             Verdict::switch_over},
        Case{"HugeNumbers",
             {.pending_bytes = ~0ull, .bytes_per_second = 1e300, .downtime_limit = 24h},
             Verdict::switch_over}),
    [](const auto& each) { return each.param.name; });

TEST(ExpectedDowntime, IsTheLimitWhileNothingIsKnown) {
  EXPECT_EQ(expected_downtime({.pending_bytes = 5, .downtime_limit = 300ms}), 300ms);
}

TEST(ExpectedDowntime, IsPendingByBandwidthAndOverhead) {
  EXPECT_EQ(expected_downtime({.pending_bytes = 1'000'000, .bytes_per_second = 1e9, .overhead = 2ms}), 3ms);
}

std::vector<RoundReport> rounds(std::initializer_list<std::uint64_t> dirty_pages) {
  std::vector<RoundReport> all;
  for (const std::uint64_t pages : dirty_pages) all.push_back({.dirty_pages = pages});
  return all;
}

TEST(Converging, NeedsSeveralRoundsWithoutProgressToGiveUpHope) {
  EXPECT_TRUE(is_converging(rounds({})));
  EXPECT_TRUE(is_converging(rounds({9, 9, 9})));
  EXPECT_FALSE(is_converging(rounds({9, 9, 9, 9})));
  EXPECT_FALSE(is_converging(rounds({1, 2, 3, 4})));
  EXPECT_TRUE(is_converging(rounds({9, 9, 8, 9})));
  EXPECT_TRUE(is_converging(rounds({0, 0, 0, 0})));
}

TEST(AutoConverge, StepsUpAfterTwoRoundsThatDirtiedTooMuchAndNoFurtherThanTheMost) {
  AutoConverge guest;
  const Throttling throttling{.on = true, .initial = 20, .increment = 30, .most = 60, .trigger = 50};
  EXPECT_EQ(guest.next(51, 100, throttling), std::nullopt);
  EXPECT_EQ(guest.next(51, 100, throttling), 20u);
  EXPECT_EQ(guest.next(51, 100, throttling), std::nullopt);
  EXPECT_EQ(guest.next(50, 100, throttling), std::nullopt) << "not too much: the count begins again";
  EXPECT_EQ(guest.next(51, 100, throttling), std::nullopt);
  EXPECT_EQ(guest.next(99, 100, throttling), 50u);
  EXPECT_EQ(guest.next(99, 100, throttling), std::nullopt);
  EXPECT_EQ(guest.next(99, 100, throttling), 60u);
  for (int round = 0; round < 4; ++round) EXPECT_EQ(guest.next(99, 100, throttling), std::nullopt);
  EXPECT_EQ(guest.percent(), 60u);
}

TEST(AutoConverge, SwitchedOffLetsGo) {
  AutoConverge guest;
  Throttling throttling{.on = true};
  EXPECT_EQ(guest.next(9, 9, {}), std::nullopt);
  guest.next(9, 9, throttling);
  EXPECT_EQ(guest.next(9, 9, throttling), 20u);
  throttling.on = false;
  EXPECT_EQ(guest.next(9, 9, throttling), 0u);
  EXPECT_EQ(guest.next(9, 9, throttling), std::nullopt);
}

TEST(BandwidthMeter, KnowsNothingUntilEnoughWasMoved) {
  BandwidthMeter meter;
  EXPECT_EQ(meter.bytes_per_second(), 0);
  meter.add(9'999, 1ms);
  EXPECT_EQ(meter.bytes_per_second(), 0);
  meter.add(1, 0ms);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 1e7);
}

TEST(BandwidthMeter, GivesTheSlowerOfTheLastTwoWholeWindows) {
  BandwidthMeter meter;
  meter.add(100'000'000, 100ms);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 1e9);
  meter.add(1'000'000, 50ms);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 1e9);
  meter.add(1'000'000, 50ms);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 2e7);
  meter.add(100'000'000, 100ms);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 2e7);
  meter.add(100'000'000, 100ms);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 1e9);
}

TEST(BandwidthAfter, ExpectsSinglePagesToBeSlowUntilARoundOfThemWasMeasured) {
  EXPECT_DOUBLE_EQ(bandwidth_after(1, 1e9), 0.5e9);
  EXPECT_DOUBLE_EQ(bandwidth_after(2, 1e9), 0.5e9);
  EXPECT_DOUBLE_EQ(bandwidth_after(3, 1e9), 1e9);
}

TEST(BandwidthMeter, IgnoresAWindowThatMovedNextToNothing) {
  BandwidthMeter meter;
  meter.add(100'000'000, 100ms);
  meter.add(4096, 100ms);
  EXPECT_DOUBLE_EQ(meter.bytes_per_second(), 1e9);
}

/// Sends in pieces of `piece` as fast as the limiter lets, for `time`; returns the bytes.
std::uint64_t send_for(RateLimiter& limiter, std::uint64_t rate, std::uint64_t piece, Clock::Time& now,
                       Nanoseconds time) {
  const Clock::Time end = now + time;
  std::uint64_t sent = 0;
  while (now < end) {
    if (limiter.allowance(rate, now) == 0) {
      now = limiter.next_window();
      continue;
    }
    limiter.spend(piece);
    sent += piece;
    now += 10us;
  }
  return sent;
}

TEST(RateLimiter, KeepsTheRateWithinTwoPercentWhateverThePieces) {
  for (const std::uint64_t piece : {1'000u, 4'096u, 65'536u, 300'000u}) {
    RateLimiter limiter;
    Clock::Time now{1h};
    const double sent = static_cast<double>(send_for(limiter, 10'000'000, piece, now, 10s));
    EXPECT_NEAR(sent, 100e6, 2e6) << piece;
  }
}

TEST(RateLimiter, PaysBackAPieceThatOverdrewSeveralWindows) {
  RateLimiter limiter;
  const Clock::Time now{1h};
  EXPECT_EQ(limiter.allowance(1'000'000, now), 100'000u);
  limiter.spend(350'000);
  EXPECT_EQ(limiter.allowance(1'000'000, now + 200ms), 0u);
  EXPECT_EQ(limiter.allowance(1'000'000, now + 300ms), 50'000u);
}

TEST(RateLimiter, SavesNothingForLater) {
  RateLimiter limiter;
  const Clock::Time now{1h};
  EXPECT_EQ(limiter.allowance(1'000'000, now), 100'000u);
  EXPECT_EQ(limiter.allowance(1'000'000, now + 10s), 100'000u);
}

TEST(RateLimiter, ObeysANewLimitAtOnceAndNoneIsNoLimit) {
  RateLimiter limiter;
  const Clock::Time now{1h};
  EXPECT_EQ(limiter.allowance(1'000'000, now), 100'000u);
  limiter.spend(500'000);
  EXPECT_EQ(limiter.allowance(2'000'000, now + 1ms), 200'000u);
  EXPECT_EQ(limiter.allowance(0, now + 2ms), ~0ull);
}

}  // namespace
}  // namespace ramferry::migration
