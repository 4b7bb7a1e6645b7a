// SPDX-License-Identifier: MIT
#include "support/faulty_channel.hpp"

#include "support/loopback_channel.hpp"
#include "support/test_memory.hpp"

#include <gtest/gtest.h>

#include <array>
#include <future>

namespace ramferry::test {
namespace {

using std::chrono::milliseconds;

Deadline soon() {
  return Deadline::after(std::chrono::seconds(5));
}

/// A loopback whose source breaks as planned.
struct Rig {
  explicit Rig(FaultPlan plan) {
    ChannelPair pair = make_loopback_pair();
    source = std::make_unique<FaultyChannel>(std::move(pair.source), std::move(plan));
    destination = std::move(pair.destination);
  }
  std::unique_ptr<FaultyChannel> source;
  std::unique_ptr<Channel> destination;
};

bool failed_with(const Result<>& outcome, errc condition) {
  return !outcome && outcome.error().is(condition);
}

Result<> receive_once(Channel& channel) {
  std::array<std::byte, 100> into{};
  RAMFERRY_TRY(channel.receive(into, soon()));
  return {};
}

TEST(FaultyChannel, WithoutAFaultItIsTheChannelItWraps) {
  Rig rig({});
  EXPECT_TRUE(rig.source->send(as_bytes("abc")));
  EXPECT_EQ(rig.source->fence().value_or(0), 1U);
  EXPECT_TRUE(rig.source->settle(1, soon()));
  EXPECT_EQ(rig.source->settled(), 1U);
  EXPECT_TRUE(receive_once(*rig.destination));
  EXPECT_EQ(rig.source->stats().message_bytes_sent, 3U);
  EXPECT_EQ(rig.source->session(), rig.destination->session());
  EXPECT_EQ(rig.source->calls(), 3U);
  EXPECT_FALSE(rig.source->has_struck());
}

TEST(FaultyChannel, FailsThePlannedCallAndAllAfterIt) {
  Rig rig(
      {.fault = FaultPlan::Fault::fail, .at_call = 3, .error = {make_error_code(errc::io), "broken", {}}});
  EXPECT_TRUE(rig.source->send(as_bytes("a")));
  EXPECT_TRUE(rig.source->send(as_bytes("b")));
  EXPECT_FALSE(rig.source->has_struck());
  EXPECT_TRUE(failed_with(rig.source->send(as_bytes("c")), errc::io));
  EXPECT_TRUE(rig.source->has_struck());
  EXPECT_TRUE(failed_with(rig.source->zero({}), errc::io));
  EXPECT_TRUE(failed_with(receive_once(*rig.source), errc::io));
  EXPECT_FALSE(rig.source->fence().has_value());
}

TEST(FaultyChannel, CountsOnlyThePlannedKind) {
  Rig rig({.fault = FaultPlan::Fault::fail, .at_call = 2, .only = Call::fence});
  EXPECT_TRUE(rig.source->fence());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(rig.source->send(as_bytes("a")));
  EXPECT_FALSE(rig.source->fence());
  EXPECT_EQ(rig.source->calls(), 2U);
}

TEST(FaultyChannel, APlannedTimeOutBreaksNothing) {
  Rig rig({.fault = FaultPlan::Fault::fail,
           .at_call = 1,
           .only = Call::settle,
           .error = {make_error_code(errc::timed_out), "slow on purpose", {}}});
  EXPECT_TRUE(rig.source->fence());
  EXPECT_TRUE(failed_with(rig.source->settle(1, soon()), errc::timed_out));
  EXPECT_TRUE(rig.source->settle(1, soon()));
}

TEST(FaultyChannel, ADroppedLinkEndsPendingCallsAtBothEnds) {
  Rig rig({.fault = FaultPlan::Fault::fail, .at_call = 1, .only = Call::send});
  auto here = std::async(std::launch::async, [&] { return receive_once(*rig.source); });
  auto there = std::async(std::launch::async, [&] { return receive_once(*rig.destination); });
  EXPECT_TRUE(failed_with(rig.source->send(as_bytes("x")), errc::peer_gone));
  EXPECT_TRUE(failed_with(here.get(), errc::peer_gone));
  EXPECT_TRUE(failed_with(there.get(), errc::peer_gone));
}

TEST(FaultyChannel, CancelsWhileThePlannedCallIsMade) {
  Rig rig({.fault = FaultPlan::Fault::cancel, .at_call = 2, .only = Call::receive});
  EXPECT_TRUE(rig.destination->send(as_bytes("x")));
  EXPECT_TRUE(receive_once(*rig.source));
  EXPECT_TRUE(failed_with(receive_once(*rig.source), errc::cancelled));
  EXPECT_TRUE(failed_with(rig.source->send(as_bytes("x")), errc::cancelled));
}

TEST(FaultyChannel, CallsBackWhileThePlannedCallIsMade) {
  std::promise<void> called;
  Rig rig({.at_call = 2, .meanwhile = [&] { called.set_value(); }});
  EXPECT_TRUE(rig.source->send(as_bytes("x")));
  EXPECT_TRUE(rig.source->send(as_bytes("x")));
  EXPECT_EQ(called.get_future().wait_for(std::chrono::seconds(5)), std::future_status::ready);
}

TEST(FaultyChannel, WindowsCanBeClosedOnABrokenLink) {
  Rig rig({.fault = FaultPlan::Fault::fail});
  EXPECT_FALSE(rig.source->send(as_bytes("x")));
  EXPECT_TRUE(rig.source->revoke(soon()));
}

TEST(FaultyChannel, ReceivesAreShort) {
  Rig rig({.most_received = 10});
  const std::vector<std::byte> sent(1000);
  EXPECT_TRUE(rig.destination->send(sent));
  std::array<std::byte, 100> into{};
  std::size_t longest = 0;
  for (std::size_t received = 0; received < sent.size();) {
    const auto got = rig.source->receive(into, soon());
    ASSERT_TRUE(got.has_value());
    received += *got;
    longest = std::max(longest, *got);
  }
  EXPECT_LE(longest, 10U);
  EXPECT_GT(longest, 1U);
}

/// A small migration: all a source does, in the order in which it does it.
Result<> procedure(Channel& source, ConstBytes memory) {
  const std::array placements = {Placement{.slot = SlotId{1}, .bytes = memory}};
  RAMFERRY_TRY(source.lend(placements));
  RAMFERRY_TRY(source.prepare(memory));
  RAMFERRY_TRY(source.send(as_bytes("hello")));
  RAMFERRY_TRY(source.place(placements));
  RAMFERRY_TRY_ASSIGN(const Epoch epoch, source.fence());
  RAMFERRY_TRY(source.settle(epoch, soon()));
  return source.finish(soon());
}

TEST(FaultyChannel, BreaksAProcedureAtEachOfItsCalls) {
  const TestMemory memory(4 * kPage), landing_memory(4 * kPage);
  MemoryLanding landing(landing_memory.bytes(), MemoryLanding::Content::unknown);
  const auto run = [&](FaultPlan plan) {
    Rig rig(std::move(plan));
    EXPECT_TRUE(rig.destination->expose(SlotId{1}, landing));
    const Result<> outcome = procedure(*rig.source, memory.bytes());
    return std::pair(outcome.has_value(), rig.source->calls());
  };
  const auto [succeeded, calls] = run({});
  EXPECT_TRUE(succeeded);
  EXPECT_EQ(calls, 7U);
  for (std::uint64_t call = 1; call <= calls; ++call)
    EXPECT_FALSE(run({.fault = FaultPlan::Fault::fail, .at_call = call}).first) << call;
  EXPECT_TRUE(run({.fault = FaultPlan::Fault::fail, .at_call = calls + 1}).first);
}

TEST(FaultyChannel, SeedsDrawEveryKindOfFault) {
  bool fails = false, cancels = false, shortens = false, delays = false;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const FaultPlan plan = FaultPlan::from_seed(seed, 50), again = FaultPlan::from_seed(seed, 50);
    EXPECT_EQ(plan.at_call, again.at_call);
    EXPECT_GE(plan.at_call, 1U);
    EXPECT_LE(plan.at_call, 50U);
    fails = fails || plan.fault == FaultPlan::Fault::fail;
    cancels = cancels || plan.fault == FaultPlan::Fault::cancel;
    shortens = shortens || plan.most_received < 5001;
    delays = delays || plan.most_delay.count() > 0;
  }
  EXPECT_TRUE(fails && cancels && shortens && delays);
}

}  // namespace
}  // namespace ramferry::test
