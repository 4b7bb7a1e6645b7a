// SPDX-License-Identifier: MIT
// The promises about ends that nobody wished for: cancel, a peer that goes, windows that close.
#include "contract/channel_contract.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>

namespace ramferry::test {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

Result<> place_one(Channel& channel, std::uint64_t offset, ConstBytes bytes) {
  const std::array placements = {Placement{.slot = kSlot, .offset = offset, .bytes = bytes}};
  return channel.place(placements);
}

Result<> receive_once(Channel& channel) {
  std::array<std::byte, 4096> into{};
  RAMFERRY_TRY(channel.receive(into, Deadline::never()));
  return {};
}

/// Repeats `call` until it fails, and returns that failure.
template <class Call>
Result<> until_failure(Call call) {
  for (;;) RAMFERRY_TRY(call());
}

/// Everything a sending thread can do, over and over. Placements go to fresh places until all is settled.
Result<> send_until_failure(Channel& channel, Bytes local, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uint64_t at = 0;
  return until_failure([&]() -> Result<> {
    if (at + 8 * kPage > local.size()) {
      RAMFERRY_TRY(settle_all(channel, Deadline::never()));
      at = 0;
    }
    const std::uint64_t length = 1 + random() % (4 * kPage);
    const std::array zeros = {ZeroRun{kSlot, at + length, 1 + random() % kPage}};
    RAMFERRY_TRY(place_one(channel, at, local.subspan(at, length)));
    RAMFERRY_TRY(channel.zero(zeros));
    at += length + zeros[0].length;
    RAMFERRY_TRY(channel.send(local.first(random() % 20000)));
    if (random() % 4 == 0) RAMFERRY_TRY(channel.fence());
    return {};
  });
}

::testing::AssertionResult lost_the_peer(const Result<>& outcome) {
  if (failed_with(outcome, errc::peer_gone) || failed_with(outcome, errc::peer_failed))
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "should have lost its peer: " << why(outcome);
}

constexpr std::size_t kArea = 1U << 20;

TEST_P(ChannelContract, CancelEndsAPendingReceive) {
  cancel_ends_a_pending_receive(ends());
}

TEST_P(ChannelContract, CancelEndsAPendingSend) {
  cancel_ends_a_pending_send(ends());
}

TEST_P(ChannelContract, CancelEndsAPendingSettle) {
  StoringLanding& landing = expose_storing(destination(), kSlot, kPage);
  landing.shut();
  const Bytes local = lent_memory(source(), kPage);
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, outcome_when([&] { return settle_all(source(), Deadline::never()); },
                                                      [&] { source().cancel(); }));
  landing.open();
}

TEST_P(ChannelContract, CancelEndsAPendingPlaceAndZero) {
  for (const bool zeroing : {false, true}) {
    connect();
    StoringLanding& landing = expose_storing(destination(), kSlot, 1ULL << 50, StoringLanding::Keep::encoded);
    landing.shut();
    const Bytes local = memory(256 * kPage);
    lend(source(), local, kSlot, 0);
    RAMFERRY_ASSERT_OK(place_one(source(), 0, local));  // stands in the way of what follows
    std::uint64_t at = local.size();
    const auto more = [&] {
      const std::array runs = {ZeroRun{kSlot, at, local.size()}};
      const Result<> outcome = zeroing ? source().zero(runs) : place_one(source(), at, local);
      at += local.size();
      return outcome;
    };
    RAMFERRY_EXPECT_FAILS(errc::cancelled,
                          outcome_when([&] { return until_failure(more); }, [&] { source().cancel(); }));
    landing.open();
  }
}

TEST_P(ChannelContract, CancelEndsAPendingFinish) {
  // Finishing waits at least while the bytes before it find no room at the peer; where it does not, it is
  // over already.
  const Bytes much = memory(traits().bulk_bytes);
  const auto outcome = outcome_when(
      [&]() -> Result<> {
        RAMFERRY_TRY(source().send(much));
        return source().finish(Deadline::never());
      },
      [&] { source().cancel(); });
  RAMFERRY_EXPECT_FAILS(errc::cancelled, outcome);
}

TEST_P(ChannelContract, AfterCancelEveryCallIsCancelled) {
  expose_memory(destination(), kSlot, kPage);
  const Bytes local = lent_memory(source(), kPage);
  const auto epoch = source().fence();
  RAMFERRY_ASSERT_OK(epoch);
  source().cancel();
  source().cancel();
  StoringLanding landing(kPage);
  const std::array plan = {Placement{.slot = kSlot, .bytes = local}};
  const std::array runs = {ZeroRun{kSlot, 0, kPage}};
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().send(as_bytes("x")));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, receive_once(source()));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().finish(soon()));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().expose(kSlot, landing));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().lend(plan));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().place(plan));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().zero(runs));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().fence());
  RAMFERRY_EXPECT_FAILS(errc::cancelled, source().settle(*epoch + 1, soon()));
  source().stats();
  source().facts();
}

TEST_P(ChannelContract, CancelIsSeenByThePeer) {
  EXPECT_TRUE(
      lost_the_peer(outcome_when([&] { return receive_once(destination()); }, [&] { source().cancel(); })));
  EXPECT_TRUE(lost_the_peer(until_failure([&] { return destination().send(as_bytes("x")); })));
}

TEST_P(ChannelContract, CancelAtAnyMomentEndsAllCalls) {
  std::mt19937_64 random(1);
  const unsigned breaks = repetitions(traits().breaks, traits().breaks * 20);
  for (unsigned round = 0; round < breaks; ++round) {
    connect();
    expose_memory(destination(), kSlot, kArea);
    expose_memory(source(), kSlot, kArea);
    const Bytes there = lent_memory(source(), kArea), back = lent_memory(destination(), kArea);
    auto source_sends = start([&] { return send_until_failure(source(), there, round); });
    auto source_receives = start([&] { return until_failure([&] { return receive_once(source()); }); });
    auto destination_sends = start([&] { return send_until_failure(destination(), back, round); });
    auto destination_receives =
        start([&] { return until_failure([&] { return receive_once(destination()); }); });
    std::this_thread::sleep_for(microseconds(random() % 4000));
    const auto before = std::chrono::steady_clock::now();
    source().cancel();
    RAMFERRY_EXPECT_FAILS(errc::cancelled, source_sends.get());
    RAMFERRY_EXPECT_FAILS(errc::cancelled, source_receives.get());
    EXPECT_LT(std::chrono::steady_clock::now() - before, traits().prompt);
    EXPECT_TRUE(lost_the_peer(destination_sends.get()));
    EXPECT_TRUE(lost_the_peer(destination_receives.get()));
  }
}

TEST_P(ChannelContract, ADestroyedPeerIsGone) {
  const Bytes much = memory(traits().bulk_bytes);
  EXPECT_TRUE(
      lost_the_peer(outcome_when([&] { return receive_once(source()); }, [&] { destroy_destination(); })));
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, receive_once(source()));
  connect();
  const Bytes more = memory(traits().bulk_bytes);
  RAMFERRY_EXPECT_FAILS(errc::peer_gone,
                        outcome_when([&] { return source().send(more); }, [&] { destroy_destination(); }));
  connect();
  RAMFERRY_EXPECT_FAILS(
      errc::peer_gone,
      outcome_when([&] { return until_failure([&] { return settle_all(source(), soon()); }); },
                   [&] { destroy_destination(); }));
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, source().fence());
}

TEST_P(ChannelContract, APeerDestroyedAtAnyMomentIsGone) {
  std::mt19937_64 random(2);
  const unsigned breaks = repetitions(traits().breaks, traits().breaks * 20);
  for (unsigned round = 0; round < breaks; ++round) {
    connect();
    expose_memory(destination(), kSlot, kArea);
    const Bytes local = lent_memory(source(), kArea);
    auto sending = start([&] { return send_until_failure(source(), local, round); });
    auto receiving = start([&] { return until_failure([&] { return receive_once(source()); }); });
    std::this_thread::sleep_for(microseconds(random() % 4000));
    const auto before = std::chrono::steady_clock::now();
    destroy_destination();
    RAMFERRY_EXPECT_FAILS(errc::peer_gone, sending.get());
    RAMFERRY_EXPECT_FAILS(errc::peer_gone, receiving.get());
    EXPECT_LT(std::chrono::steady_clock::now() - before, traits().prompt);
  }
}

TEST_P(ChannelContract, WhatArrivedBeforeTheFailureIsReceivedFirst) {
  RAMFERRY_ASSERT_OK(source().send(as_bytes("why I failed")));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));  // acknowledged: so the bytes have arrived
  destroy_source();
  std::array<std::byte, 12> words{};
  RAMFERRY_ASSERT_OK(receive_exactly(destination(), words, soon()));
  EXPECT_EQ(std::memcmp(words.data(), "why I failed", words.size()), 0);
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, receive_once(destination()));
}

TEST_P(ChannelContract, WhatWasReceivedBeforeACutIsCorrect) {
  const Bytes sent = memory(1U << 20);
  fill_pattern(sent, 1);
  for (unsigned round = 0; round < traits().breaks; ++round) {
    connect();
    const Bytes bytes = memory(sent.size());
    fill_pattern(bytes, 1);
    auto sending = start([&] { return source().send(bytes); });
    std::vector<std::byte> received(bytes.size());
    std::size_t count = 0;
    for (bool cut = false; count < received.size();) {
      const auto got = destination().receive(std::span(received).subspan(count), Deadline::never());
      if (!got) {
        EXPECT_TRUE(got.error().is(errc::peer_gone)) << why(got);
        break;
      }
      ASSERT_NE(*got, 0U) << "a cut is no finish";
      count += *got;
      if (!cut && count > round * 4096) source().cancel();
      cut = cut || count > round * 4096;
    }
    EXPECT_TRUE(
        std::equal(received.begin(), received.begin() + static_cast<std::ptrdiff_t>(count), bytes.begin()));
    sending.get().has_value();
  }
}

TEST_P(ChannelContract, ADestroyedChannelLeavesAllMemoryAlone) {
  std::mt19937_64 random(4);
  for (unsigned round = 0; round < traits().breaks; ++round) {
    connect();
    constexpr std::size_t kSize = 8U << 20;  // takes longer to cross than to unmap
    std::optional<TestMemory> local(std::in_place, kSize), there(std::in_place, kSize);
    MemoryLanding landing(there->bytes(), MemoryLanding::Content::unknown);
    RAMFERRY_ASSERT_OK(destination().expose(kSlot, landing));
    lend(source(), local->bytes(), kSlot, 0);
    RAMFERRY_ASSERT_OK(place_one(source(), 0, local->bytes()));
    std::this_thread::sleep_for(microseconds(random() % 4000));
    if (round % 2 == 0) {
      destroy_source();
      local.reset();  // unmapped, though nothing was settled
      destroy_destination();
    } else {
      destroy_destination();
      there.reset();
      destroy_source();
    }
  }
}

TEST_P(ChannelContract, BytesFlowAfterRevoke) {
  const Bytes landing = expose_memory(destination(), kSlot, kPage);
  const Bytes local = lent_memory(source(), kPage);
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  RAMFERRY_ASSERT_OK(destination().revoke(soon()));
  RAMFERRY_EXPECT_OK(destination().revoke(soon()));  // again: nothing left to do
  RAMFERRY_EXPECT_OK(source().send(as_bytes("there")));
  RAMFERRY_EXPECT_OK(destination().send(as_bytes("back!")));
  std::array<std::byte, 5> words{};
  RAMFERRY_EXPECT_OK(receive_exactly(destination(), words, soon()));
  RAMFERRY_EXPECT_OK(receive_exactly(source(), words, soon()));
  RAMFERRY_EXPECT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(has_pattern(landing, 1));
}

TEST_P(ChannelContract, RevokeClosesOnlyOnesOwnWindows) {
  const Bytes landing = expose_memory(source(), kSlot, kPage);
  const Bytes local = lent_memory(destination(), kPage);
  expose_memory(destination(), kSlot, kPage);
  RAMFERRY_ASSERT_OK(destination().revoke(soon()));
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(destination(), 0, local));
  RAMFERRY_ASSERT_OK(settle_all(destination(), soon()));
  EXPECT_TRUE(has_pattern(landing, 1));
}

TEST_P(ChannelContract, NothingIsExposedAfterRevoke) {
  RAMFERRY_ASSERT_OK(destination().revoke(soon()));
  StoringLanding landing(kPage);
  RAMFERRY_EXPECT_FAILS(errc::wrong_state, destination().expose(kSlot, landing));
}

TEST_P(ChannelContract, NothingLandsAfterRevokeThoughThePeerGoesOnPlacing) {
  std::mt19937_64 random(3);
  for (unsigned round = 0; round < traits().breaks; ++round) {
    connect();
    const Bytes landing = expose_memory(destination(), kSlot, 64 * kPage);
    const Bytes local = lent_memory(source(), landing.size());
    auto placing = start([&] {
      std::uint64_t seed = 0;
      return until_failure([&]() -> Result<> {
        fill_pattern(local, ++seed);
        RAMFERRY_TRY(place_one(source(), 0, local));
        return settle_all(source(), Deadline::never());
      });
    });
    std::this_thread::sleep_for(microseconds(random() % 3000));
    RAMFERRY_ASSERT_OK(destination().revoke(soon()));
    const std::vector<std::byte> then(landing.begin(), landing.end());
    EXPECT_TRUE(lost_the_peer(placing.get()));
    EXPECT_TRUE(std::equal(then.begin(), then.end(), landing.begin())) << "round " << round;
  }
}

TEST_P(ChannelContract, RevokeWaitsForALandingThatIsBusy) {
  StoringLanding& landing = expose_storing(destination(), kSlot, kPage);
  landing.shut();
  const Bytes local = lent_memory(source(), kPage);
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
  RAMFERRY_ASSERT_OK(source().fence());
  landing.wait_until_entered();
  RAMFERRY_EXPECT_FAILS(errc::timed_out, destination().revoke(Deadline::after(milliseconds(20))));
  landing.open();
  RAMFERRY_EXPECT_OK(destination().revoke(soon()));
}

TEST_P(ChannelContract, RevokeWorksOnACancelledChannel) {
  const Bytes landing = expose_memory(destination(), kSlot, 64 * kPage);
  const Bytes local = lent_memory(source(), landing.size());
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
  destination().cancel();
  RAMFERRY_EXPECT_OK(destination().revoke(soon()));
  const std::vector<std::byte> then(landing.begin(), landing.end());
  destroy_source();
  EXPECT_TRUE(std::equal(then.begin(), then.end(), landing.begin()));
}

}  // namespace
}  // namespace ramferry::test
