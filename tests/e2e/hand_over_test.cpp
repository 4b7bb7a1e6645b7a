// SPDX-License-Identifier: MIT
// The link is cut at every call of either end, and migrations are cancelled at any moment: never two owners,
// and if nobody owns the guest somebody says so.
#include "reporting_rig.hpp"

namespace ramferry::test {
namespace {

using namespace ramferry::migration;
using namespace std::chrono_literals;

/// Nobody waits for a timeout of the other end; on a busy machine this is still seconds.
constexpr auto kSoon = 30s, kLong = 120s;

const FakeVm::Options kSmall = {.pages = {96, 3}, .seed = 11, .writers = 1, .writes_per_second = 2'000};

/// Cuts at call 1, 2, 3 … of `end` until a migration gets through; returns the number of calls it has.
std::uint64_t cut_everywhere(End end, bool after) {
  for (std::uint64_t call = 1;; ++call) {
    SCOPED_TRACE("call " + std::to_string(call));
    auto meddling = std::make_shared<Meddling>();
    meddling->cut_end = end;
    meddling->cut_at = call;
    meddling->cut_after = after;
    ReportingRig reporting({.vm = kSmall, .timeout = 1000ms});
    const Outcome outcome = reporting.rig.migrate(meddled_loopback(meddling, call));
    expect_one_owner(outcome, reporting);
    if (!meddling->cut || testing::Test::HasFailure()) return call;
  }
}

TEST(HandOver, HasNeverTwoOwnersWhereverTheSourcesLinkIsCut) {
  EXPECT_GT(cut_everywhere(End::source, false), 10u);
  EXPECT_GT(cut_everywhere(End::source, true), 10u);
}

TEST(HandOver, HasNeverTwoOwnersWhereverTheDestinationsLinkIsCut) {
  EXPECT_GT(cut_everywhere(End::destination, false), 10u);
  EXPECT_GT(cut_everywhere(End::destination, true), 10u);
}

TEST(Cancel, AtAnyMomentLeavesOneOwnerAndIsQuick) {
  for (std::uint64_t seed = 1; seed <= repetitions(30, 500); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto wait = std::chrono::microseconds(random() % 12'000);
    ReportingRig reporting(
        {.vm = {.seed = seed, .writers = 1}, .limits = {.bandwidth = 2'000'000'000}, .timeout = kLong});
    std::chrono::steady_clock::time_point cancelled_at;
    reporting.rig.meanwhile = [&](OutgoingMigration& outgoing) {
      std::this_thread::sleep_for(wait);
      cancelled_at = std::chrono::steady_clock::now();
      outgoing.cancel();
    };
    const Outcome outcome = reporting.rig.migrate(loopback(seed));
    EXPECT_LT(std::chrono::steady_clock::now() - cancelled_at, kSoon);
    expect_one_owner(outcome, reporting);
    if (!outcome.source) {
      EXPECT_TRUE(outcome.source.error().is(errc::cancelled)) << outcome.source.error().message();
      EXPECT_EQ(outcome.source_status.state, State::cancelled);
      EXPECT_TRUE(outcome.source_runs);
    } else {
      EXPECT_EQ(outcome.source_status.state, State::completed);
    }
  }
}

TEST(Cancel, UnblocksACallThatIsStuckAndTheGuestRunsOn) {
  for (std::uint64_t call = 1;; ++call) {
    SCOPED_TRACE("call " + std::to_string(call));
    auto meddling = std::make_shared<Meddling>();
    meddling->stuck_at = call;
    ReportingRig reporting({.vm = kSmall, .timeout = 1500ms});
    std::chrono::steady_clock::time_point cancelled_at{};
    reporting.rig.meanwhile = [&](OutgoingMigration& outgoing) {
      while (!meddling->stuck && outgoing.status().state != State::completed) std::this_thread::yield();
      cancelled_at = std::chrono::steady_clock::now();
      outgoing.cancel();
    };
    const Outcome outcome = reporting.rig.migrate(meddled_loopback(meddling));
    if (!meddling->stuck) break;
    EXPECT_LT(std::chrono::steady_clock::now() - cancelled_at, kSoon);
    expect_one_owner(outcome, reporting);
  }
}

TEST(Cancel, DoesNotWaitForAPeerThatSaysNothing) {
  for (const std::uint64_t call : {1u, 2u, 4u, 6u}) {
    SCOPED_TRACE("call " + std::to_string(call));
    auto meddling = std::make_shared<Meddling>();
    meddling->stuck_end = End::destination;
    meddling->stuck_at = call;
    ReportingRig each({.vm = kSmall, .timeout = kLong});
    std::chrono::steady_clock::time_point cancelled_at{};
    std::chrono::nanoseconds took{};
    each.rig.meanwhile = [&](OutgoingMigration& outgoing) {
      while (!meddling->stuck) std::this_thread::yield();
      cancelled_at = std::chrono::steady_clock::now();
      outgoing.cancel();
      while (outgoing.status().state == State::cancelling) std::this_thread::yield();
      took = std::chrono::steady_clock::now() - cancelled_at;
      each.rig.cancel_destination();
    };
    const Outcome outcome = each.rig.migrate(meddled_loopback(meddling));
    EXPECT_LT(took, kSoon);
    EXPECT_TRUE(!outcome.source && outcome.source.error().is(errc::cancelled));
    expect_one_owner(outcome, each);
  }
}

}  // namespace
}  // namespace ramferry::test
