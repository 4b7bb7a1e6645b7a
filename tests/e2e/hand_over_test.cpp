// SPDX-License-Identifier: MIT
// The link is cut at every call of either end, and migrations are cancelled at any moment: never two owners,
// and if nobody owns the guest somebody says so.
#include "reporting_rig.hpp"

#include <ramferry/forwarding_channel.hpp>

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

/// What happens at the source's end of a link that stalls once everything has been sent. Any thread.
struct Stall {
  /// Waits until the source waits for what is in flight.
  void await_begin() const {
    while (!waiting) std::this_thread::yield();
  }
  /// Until `deadline`, unless it is over by then: true.
  bool wait(Deadline deadline) {
    std::unique_lock lock(mutex);
    waiting = true;
    const bool woken = changed.wait_until(lock, deadline.when(), [this] { return is_over || cancelled; });
    timeouts += woken ? 0 : 1;
    return woken;
  }
  void set(std::atomic<bool>& flag) {
    const std::lock_guard lock(mutex);
    flag = true;
    changed.notify_all();
  }
  void end() { set(is_over); }
  void cancel() { set(cancelled); }

  std::mutex mutex;
  std::condition_variable changed;
  std::atomic<bool> waiting = false, is_over = false, cancelled = false;
  std::atomic<unsigned> timeouts = 0;
  std::atomic<std::uint64_t> placed_while_paused = 0;
  std::atomic<bool> paused_in_stall = false;
};

class Stalling final : public ForwardingChannel {
 public:
  Stalling(std::unique_ptr<Channel> inner, const FakeVm& vm, Stall& stall)
      : ForwardingChannel(std::move(inner)), vm_(vm), stall_(stall) {}
  Result<> place(std::span<const Placement> batch) override {
    if (!vm_.running()) stall_.placed_while_paused += batch.size();
    return ForwardingChannel::place(batch);
  }
  Result<Epoch> fence() override {
    if (!vm_.running() && !stall_.is_over) stall_.paused_in_stall = true;
    return ForwardingChannel::fence();
  }
  Result<> settle(Epoch epoch, Deadline deadline) override {
    if (!stall_.wait(deadline)) return fail(errc::timed_out, "waiting on a link that stalls");
    return ForwardingChannel::settle(epoch, deadline);
  }
  Epoch settled() const noexcept override { return stall_.is_over ? ForwardingChannel::settled() : 0; }
  void cancel() noexcept override {
    stall_.cancel();
    ForwardingChannel::cancel();
  }

 private:
  const FakeVm& vm_;
  Stall& stall_;
};

/// A migration whose link stalls, and what a test does `meanwhile`. Everything fits the downtime: only what
/// is in flight is waited for.
struct StallingRig {
  explicit StallingRig(std::chrono::milliseconds timeout = kLong)
      : reporting({.vm = {.pages = {256}, .seed = 5},
                   .limits = {.downtime = std::chrono::hours(1)},
                   .timeout = timeout}) {
    fill_pattern(memory(), 9);
  }
  Bytes memory() const { return reporting.rig.source.layout()[0].host; }
  Outcome migrate(std::function<void(OutgoingMigration&)> meanwhile) {
    reporting.rig.meanwhile = std::move(meanwhile);
    return reporting.rig.migrate([&](SessionId session) {
      ChannelPair pair = loopback()(session);
      pair.source = std::make_unique<Stalling>(std::move(pair.source), reporting.rig.source, stall);
      return pair;
    });
  }

  Stall stall;
  ReportingRig reporting;
};

TEST(SwitchOver, CancelledWhileItWaitsForWhatIsInFlightItNeverPausesTheGuest) {
  StallingRig subject;
  const Outcome outcome = subject.migrate([&](OutgoingMigration& outgoing) {
    subject.stall.await_begin();
    outgoing.cancel();
  });
  ASSERT_FALSE(outcome.source);
  EXPECT_TRUE(outcome.source.error().is(errc::cancelled)) << outcome.source.error().message();
  EXPECT_EQ(subject.reporting.rig.source.pauses(), 0);
  expect_one_owner(outcome, subject.reporting);
}

TEST(SwitchOver, FailedByTheDestinationWhileItWaitsItNeverPausesTheGuest) {
  StallingRig subject;
  const Outcome outcome = subject.migrate([&](OutgoingMigration&) {
    subject.stall.await_begin();
    subject.reporting.rig.cancel_destination();
  });
  EXPECT_FALSE(outcome.source);
  EXPECT_EQ(subject.reporting.rig.source.pauses(), 0);
  expect_one_owner(outcome, subject.reporting);
}

TEST(SwitchOver, DoesNotPauseTheGuestForALinkThatStandsStill) {
  StallingRig subject;
  const Outcome outcome = subject.migrate([&](OutgoingMigration&) {
    // For longer than anybody should wait at a time.
    while (subject.stall.timeouts < 3 && !subject.stall.paused_in_stall) std::this_thread::yield();
    subject.stall.end();
  });
  EXPECT_TRUE(outcome.source) << outcome.source.error().message();
  EXPECT_FALSE(subject.stall.paused_in_stall);
  EXPECT_EQ(subject.reporting.rig.source.pauses(), 1);
  expect_one_owner(outcome, subject.reporting);
}

TEST(SwitchOver, SendsWhatTheGuestWroteInALongWaitBeforeItPausesIt) {
  StallingRig subject;
  const Outcome outcome = subject.migrate([&](OutgoingMigration& outgoing) {
    subject.stall.await_begin();
    std::vector<std::byte> content(subject.memory().size());
    fill_pattern(content, 77);
    guest_writes(subject.memory(), content);
    subject.reporting.log->mark(0, 0, content.size());
    outgoing.set_limits({.downtime = std::chrono::milliseconds(0)});  // nothing fits any more
    while (subject.stall.timeouts < 3 && subject.reporting.rig.source.pauses() == 0)
      std::this_thread::yield();
    subject.stall.end();
  });
  EXPECT_TRUE(outcome.source) << outcome.source.error().message();
  EXPECT_EQ(subject.stall.placed_while_paused, 0u);
  expect_one_owner(outcome, subject.reporting);
}

}  // namespace
}  // namespace ramferry::test
