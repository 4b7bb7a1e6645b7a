// SPDX-License-Identifier: MIT
// The channel on the fabric model: what the contract does not say about RDMA, and what a fabric may do to it.
#include "channel.hpp"
#include "model_pair.hpp"
#include "support/outcome.hpp"
#include "support/test_memory.hpp"

#include <gmock/gmock.h>

#include <array>
#include <chrono>
#include <cstring>
#include <future>
#include <string>
#include <thread>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;
using test::fill_pattern;
using test::has_pattern;
using test::kPage;
using test::TestMemory;
using test::why;
using ::testing::HasSubstr;
using testing::ModelNet;
using testing::ModelPlan;

constexpr SlotId kSlot{3};

/// A net, two ends, and memory at each.
class Subject {
 public:
  Subject(const ModelPlan& plan, const std::string& options, std::size_t size,
          const std::string& at_destination = {})
      : net(plan), local(size), there(size), landing(there.bytes(), MemoryLanding::Content::blank) {
    auto made = testing::make_pair_on(net, SessionId::random(), options, at_destination);
    if (!made) {
      ADD_FAILURE() << made.error().message();
      return;
    }
    source = std::move(made->source);
    destination = std::move(made->destination);
    EXPECT_TRUE(destination->expose(kSlot, landing));
  }

  Placement piece(std::size_t offset, std::size_t size) const {
    return {.slot = kSlot, .offset = offset, .bytes = local.slice(offset, size)};
  }
  Result<> lend(std::size_t offset, std::size_t size) {
    const std::array plan{piece(offset, size)};
    return source->lend(plan);
  }
  Result<> place(std::size_t offset, std::size_t size) {
    const std::array batch{piece(offset, size)};
    return source->place(batch);
  }
  Result<> settle() {
    RAMFERRY_TRY_ASSIGN(const Epoch epoch, source->fence());
    return source->settle(epoch, Deadline::after(60s));
  }

  ModelNet net;
  TestMemory local, there;
  MemoryLanding landing;
  std::unique_ptr<Channel> source, destination;
};

std::uint64_t below(std::uint64_t& state, std::uint64_t bound) {
  state = state * 6364136223846793005ULL + 1442695040888963407ULL;
  return (state >> 33) % bound;
}

TEST(RdmaChannel, BulkTakesFewRequestsDoorbellsAndCompletions) {
  constexpr std::size_t kSize = 64 << 20;
  Subject subject({}, "lanes=2", kSize);
  // All is registered and granted after the first time, so that lists are cut short by nothing but their end.
  RAMFERRY_EXPECT_OK(subject.lend(0, kSize));
  RAMFERRY_EXPECT_OK(subject.place(0, kSize));
  RAMFERRY_EXPECT_OK(subject.settle());
  const StreamStats before = subject.source->stats();
  std::vector<Placement> batch;
  for (std::size_t at = 0; at < kSize; at += 1 << 20) batch.push_back(subject.piece(at, 1 << 20));
  RAMFERRY_EXPECT_OK(subject.source->place(batch));
  RAMFERRY_EXPECT_OK(subject.settle());
  const StreamStats stats = subject.source->stats();
  constexpr std::uint64_t kPerGiB = (1 << 30) / kSize;
  EXPECT_LE((stats.doorbells - before.doorbells) * kPerGiB, 600U);
  EXPECT_LE((stats.completions - before.completions) * kPerGiB, 600U + 40 * kPerGiB)
      << "the control connection's apart";
  EXPECT_LE((stats.work_requests - before.work_requests) * kPerGiB, 1100U);
  EXPECT_EQ(stats.copied_bytes, 0U);
}

TEST(RdmaChannel, ScatteredPagesShareDoorbellsAndCompletions) {
  constexpr std::size_t kPages = 8192;
  Subject subject({}, "lanes=2", kPages * 2 * kPage);
  RAMFERRY_EXPECT_OK(subject.lend(0, kPages * 2 * kPage));
  std::vector<Placement> batch;
  for (std::size_t page = 0; page < kPages; ++page) batch.push_back(subject.piece(page * 2 * kPage, kPage));
  RAMFERRY_EXPECT_OK(subject.source->place(batch));
  RAMFERRY_EXPECT_OK(subject.settle());
  const StreamStats stats = subject.source->stats();
  EXPECT_LE(stats.doorbells * (262144 / kPages), 8500U);
  EXPECT_LE(stats.completions * (262144 / kPages), 8500U);
  EXPECT_EQ(subject.net.counts().collisions, 0U);
}

TEST(RdmaChannel, RegistersOnlyWhatWasLentAtBothEnds) {
  constexpr std::size_t kSize = 32 << 20;
  Subject subject({}, "lanes=1&chunk=1M", kSize);
  const std::uint64_t before = subject.net.counts().region_bytes;
  const std::array plan{subject.piece(2 << 20, 3 << 20), subject.piece(20 << 20, 64 << 10)};
  RAMFERRY_EXPECT_OK(subject.source->lend(plan));
  for (const Placement& each : plan) RAMFERRY_EXPECT_OK(subject.source->prepare(each.bytes));
  RAMFERRY_EXPECT_OK(subject.source->place(plan));
  RAMFERRY_EXPECT_OK(subject.settle());
  EXPECT_EQ(subject.net.counts().region_bytes - before, 2 * ((3ULL << 20) + (64 << 10)));
  EXPECT_EQ(subject.source->stats().copied_bytes, 0U);
}

TEST(RdmaChannel, PinsOnDemandWithinTheBudgetOfEachEnd) {
  constexpr std::size_t kSize = 32 << 20;
  for (const auto& [here, there] : std::vector<std::pair<std::string, std::string>>{
           {"lanes=2&pin=demand&pin-budget=4M", "pin=all"},
           {"lanes=2", "pin=demand&pin-budget=4M"},
           {"lanes=2&pin=demand&pin-budget=4M", "pin=demand&pin-budget=2M"}}) {
    SCOPED_TRACE(here + " to " + there);
    Subject subject({}, here, kSize, there);
    const std::uint64_t own_here = subject.source->stats().pinned_bytes;
    const std::uint64_t own_there = subject.destination->stats().pinned_bytes;
    fill_pattern(subject.local.bytes(), 1);
    RAMFERRY_EXPECT_OK(subject.lend(0, kSize));
    const auto most = std::min<std::size_t>(kSize, subject.source->prepares_at_most());
    for (std::size_t at = 0; at < kSize; at += most) {
      RAMFERRY_EXPECT_OK(subject.source->prepare(subject.local.slice(at, most)));
      RAMFERRY_EXPECT_OK(subject.place(at, most));
    }
    RAMFERRY_EXPECT_OK(subject.settle());
    EXPECT_TRUE(has_pattern(subject.there.bytes(), 1));
    EXPECT_EQ(subject.source->stats().copied_bytes, 0U) << "round one needs no copies";
    if (here.find("demand") != std::string::npos) {
      EXPECT_LE(subject.source->stats().peak_pinned_bytes, own_here + (5ULL << 20)) << "with its ring";
    }
    if (there.find("demand") != std::string::npos) {
      EXPECT_LE(subject.destination->stats().peak_pinned_bytes, own_there + (4ULL << 20));
    }

    // A tracker watches all of it now: what is not registered any more is copied, not registered again.
    fill_pattern(subject.local.bytes(), 2);
    RAMFERRY_EXPECT_OK(subject.place(0, kSize));
    RAMFERRY_EXPECT_OK(subject.settle());
    EXPECT_TRUE(has_pattern(subject.there.bytes(), 2));
    if (here.find("demand") != std::string::npos) {
      EXPECT_GT(subject.source->stats().copied_bytes, 0U);
    }
    EXPECT_EQ(subject.net.counts().collisions, 0U);
  }
}

TEST(RdmaChannel, NeverRegistersAWatchedChunkAgain) {
  constexpr std::size_t kSize = 16 << 20;
  Subject subject({}, "lanes=1&pin=demand&pin-budget=1M", kSize);
  RAMFERRY_EXPECT_OK(subject.lend(0, kSize));
  for (std::size_t at = 0; at < kSize; at += 64 << 10) {
    RAMFERRY_EXPECT_OK(subject.source->prepare(subject.local.slice(at, 64 << 10)));
    RAMFERRY_EXPECT_OK(subject.place(at, 64 << 10));
  }
  RAMFERRY_EXPECT_OK(subject.settle());
  RAMFERRY_EXPECT_OK(subject.place(0, 64 << 10));  // the first copy registers the ring
  RAMFERRY_EXPECT_OK(subject.settle());
  const std::uint64_t pinned = subject.source->stats().pinned_bytes;
  const std::uint64_t peak = subject.source->stats().peak_pinned_bytes;
  for (int round = 0; round < 3; ++round) {
    RAMFERRY_EXPECT_OK(subject.place(0, kSize));
    RAMFERRY_EXPECT_OK(subject.settle());
  }
  EXPECT_EQ(subject.source->stats().pinned_bytes, pinned);
  EXPECT_EQ(subject.source->stats().peak_pinned_bytes, peak);
}

TEST(RdmaChannel, SplitsForDevicesWithSmallRegions) {
  constexpr std::size_t kSize = 16 << 20;
  ModelPlan plan;
  plan.device.max_region_bytes = 2 << 20;
  Subject subject(plan, "lanes=2", kSize);
  fill_pattern(subject.local.bytes(), 1);
  RAMFERRY_EXPECT_OK(subject.lend(0, kSize));
  RAMFERRY_EXPECT_OK(subject.place(0, kSize));
  RAMFERRY_EXPECT_OK(subject.settle());
  EXPECT_TRUE(has_pattern(subject.there.bytes(), 1));
}

TEST(RdmaChannel, MergesManyRangesForDevicesWithFewRegions) {
  ModelPlan plan;
  plan.device.max_regions = 64;
  plan.most_regions = 64;
  constexpr std::size_t kPages = 1024;
  Subject subject(plan, "lanes=1", kPages * kPage);
  fill_pattern(subject.local.bytes(), 1);
  std::vector<Placement> batch;
  for (std::size_t page = 0; page < kPages; page += 2) batch.push_back(subject.piece(page * kPage, kPage));
  RAMFERRY_EXPECT_OK(subject.source->lend(batch));
  RAMFERRY_EXPECT_OK(subject.source->place(batch));
  RAMFERRY_EXPECT_OK(subject.settle());
  for (const Placement& each : batch)
    ASSERT_EQ(std::memcmp(subject.there.bytes().data() + each.offset, each.bytes.data(), kPage), 0);
}

TEST(RdmaChannel, PinAllNamesTheLimitItHits) {
  ModelPlan plan;
  plan.device.lockable_bytes = 24 << 20;
  Subject subject(plan, "lanes=1&chunk=1M", 64 << 20);
  RAMFERRY_EXPECT_OK(subject.lend(0, 64 << 20));
  const auto prepared = subject.source->prepare(subject.local.bytes());
  ASSERT_FALSE(prepared);
  // Either end may be the first to hit it.
  EXPECT_TRUE(prepared.error().is(errc::memory_lock_limit) || prepared.error().is(errc::peer_failed))
      << why(prepared);
  EXPECT_THAT(prepared.error().message(), HasSubstr("raise the model's limits"));
  EXPECT_THAT(prepared.error().message(), HasSubstr("are registered already"));
}

TEST(RdmaChannel, PagesThatComeAgainDoNotCostThePeerARegistrationEach) {
  constexpr std::size_t kPages = 4096;
  Subject subject({}, "lanes=2", kPages * kPage, "pin=demand&pin-budget=1M");
  fill_pattern(subject.local.bytes(), 1);
  RAMFERRY_EXPECT_OK(subject.lend(0, kPages * kPage));
  RAMFERRY_EXPECT_OK(subject.place(0, kPages * kPage));
  RAMFERRY_EXPECT_OK(subject.settle());
  EXPECT_TRUE(has_pattern(subject.there.bytes(), 1));
  EXPECT_EQ(subject.source->stats().copied_bytes, 0U) << "round one needs no copies";
  const std::uint64_t before = subject.net.counts().registrations;
  std::vector<Placement> batch;
  for (std::size_t i = 0; i < 400; ++i) batch.push_back(subject.piece(i * 1237 % kPages * kPage, kPage));
  fill_pattern(subject.local.bytes(), 2);
  RAMFERRY_EXPECT_OK(subject.source->place(batch));
  RAMFERRY_EXPECT_OK(subject.settle());
  for (const Placement& each : batch)
    EXPECT_EQ(std::memcmp(each.bytes.data(), subject.there.bytes().data() + each.offset, kPage), 0);
  EXPECT_LT(subject.net.counts().registrations - before, 20U);
  EXPECT_EQ(subject.net.counts().collisions, 0U);
}

TEST(RdmaChannel, PinOnDemandLivesWithALimitThatIsTooSmall) {
  ModelPlan plan;
  plan.device.lockable_bytes = 24 << 20;  // less than the budget says
  Subject subject(plan, "lanes=1&chunk=1M&pin=demand&pin-budget=48M", 64 << 20);
  fill_pattern(subject.local.bytes(), 1);
  RAMFERRY_EXPECT_OK(subject.lend(0, 64 << 20));
  for (std::size_t at = 0; at < 64U << 20; at += 1 << 20) {
    RAMFERRY_EXPECT_OK(subject.source->prepare(subject.local.slice(at, 1 << 20)));
    RAMFERRY_EXPECT_OK(subject.place(at, 1 << 20));
  }
  RAMFERRY_EXPECT_OK(subject.settle());
  EXPECT_TRUE(has_pattern(subject.there.bytes(), 1));
}

TEST(RdmaChannel, PinOnDemandFindsALimitThatNobodyTells) {
  for (const std::uint64_t limit : {8ULL << 20, 6ULL << 20, 11ULL << 20}) {
    SCOPED_TRACE(limit);
    ModelPlan plan;
    plan.hidden_limit = limit;  // less than any one of its pieces is large
    Subject subject(plan, "lanes=1&pin=demand&pin-budget=64M", 64 << 20);
    fill_pattern(subject.local.bytes(), 1);
    RAMFERRY_EXPECT_OK(subject.lend(0, 64 << 20));
    RAMFERRY_EXPECT_OK(subject.place(0, 64 << 20));
    RAMFERRY_EXPECT_OK(subject.settle());
    EXPECT_TRUE(has_pattern(subject.there.bytes(), 1));
  }
}

TEST(RdmaChannel, PinOnDemandTakesNoMoreThanItsLimitWhateverTheBudget) {
  ModelPlan plan;
  plan.device.lockable_bytes = 24 << 20;
  Subject subject(plan, "lanes=1&pin=demand&pin-budget=48M", 4 << 20);
  for (const auto& [name, value] : subject.source->facts()) {
    if (name == "pin-budget") {
      EXPECT_EQ(value, format_size((22ULL << 20) / 5 * 4 / kPage * kPage));
    }
  }
}

TEST(RdmaChannel, AFailingRegistrationFailsBothEndsAndLeavesNothing) {
  for (const unsigned number : {9U, 10U, 12U}) {
    SCOPED_TRACE(number);
    ModelPlan plan;
    plan.failing_registration = number;
    Subject subject(plan, "lanes=1&chunk=1M", 8 << 20);
    RAMFERRY_EXPECT_OK(subject.lend(0, 8 << 20));
    Result<> outcome = subject.place(0, 8 << 20);
    if (outcome) outcome = subject.settle();
    ASSERT_FALSE(outcome);
    EXPECT_THAT(outcome.error().message(), HasSubstr("registering"));
    std::array<std::byte, 1> into{};
    EXPECT_FALSE(subject.destination->receive(into, Deadline::after(20s)));
    subject.source.reset();
    subject.destination.reset();
    EXPECT_EQ(subject.net.counts().regions, 0U);
    EXPECT_EQ(subject.net.counts().connections, 0U);
  }
}

TEST(RdmaChannel, RightsAreTheLeast) {
  Subject subject({}, "lanes=2", 1 << 20);
  RAMFERRY_EXPECT_OK(subject.lend(0, 1 << 20));
  RAMFERRY_EXPECT_OK(subject.place(0, 1 << 20));
  RAMFERRY_EXPECT_OK(subject.settle());
  EXPECT_EQ(subject.net.counts().remotely_writable_bytes, 1ULL << 20)
      << "the slot, and nothing else at either end";
}

TEST(RdmaChannel, WhatAFabricDoesToItEndsInAnError) {
  struct Case {
    const char* name;
    void (*happen)(ModelNet&);
    errc condition;
  };
  const std::vector<Case> cases{
      {"the link is pulled", [](ModelNet& net) { net.cut(); }, errc::peer_gone},
      {"a lane times out", [](ModelNet& net) { net.fail_next(1, FabricErrc::retry_exceeded); },
       errc::peer_gone},
      {"a lane's key is wrong", [](ModelNet& net) { net.fail_next(2, FabricErrc::remote_access); },
       errc::peer_failed},
      {"the peer has no receive", [](ModelNet& net) { net.fail_next(0, FabricErrc::receiver_not_ready); },
       errc::peer_gone},
      {"the control connection falls silent", [](ModelNet& net) { net.hang(0); }, errc::peer_gone},
      {"the device is removed", [](ModelNet& net) { net.remove_device(); }, errc::io},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.name);
    Subject subject({}, "lanes=2&peer-timeout=3", 8 << 20);
    RAMFERRY_EXPECT_OK(subject.lend(0, 8 << 20));
    RAMFERRY_EXPECT_OK(subject.place(0, 8 << 20));
    RAMFERRY_EXPECT_OK(subject.settle());
    each.happen(subject.net);
    const auto began = std::chrono::steady_clock::now();
    Result<> outcome;
    while (outcome && std::chrono::steady_clock::now() - began < 30s) {
      outcome = subject.place(0, 8 << 20);
      if (outcome) outcome = subject.settle();
    }
    ASSERT_FALSE(outcome);
    const bool flushed_by_removal = each.condition == errc::io && outcome.error().is(errc::peer_gone);
    EXPECT_TRUE(outcome.error().is(each.condition) || flushed_by_removal) << why(outcome);
    subject.source.reset();
    subject.destination.reset();
    EXPECT_EQ(subject.net.counts().regions, 0U);
  }
}

TEST(RdmaChannel, TellsThePeerOfAPostThatFailedOnAThreadOfItsOwn) {
  Subject subject({}, "lanes=2", 1 << 20);
  subject.net.report(0, {std::make_error_code(std::errc::invalid_argument), "posting", false});
  std::array<std::byte, 1> into{};
  const auto received = subject.destination->receive(into, Deadline::after(60s));
  ASSERT_FALSE(received);
  EXPECT_TRUE(received.error().is(errc::peer_failed)) << why(received);
  EXPECT_THAT(received.error().message(), HasSubstr("the other end: using the connection: posting"));
}

TEST(RdmaChannel, SaysWhatADeviceRefusedThoughThePeerLeavesAtOnce) {
  Subject subject({}, "lanes=1", 1 << 20);
  RAMFERRY_EXPECT_OK(subject.place(0, 1 << 20));
  RAMFERRY_EXPECT_OK(subject.settle());
  subject.net.fail_next(1, FabricErrc::remote_access);
  RAMFERRY_EXPECT_OK(subject.place(0, 1 << 20));
  const auto epoch = subject.source->fence();
  const Deadline patience = Deadline::after(60s);
  while (subject.net.counts().failed == 0 && !patience.passed()) std::this_thread::yield();
  subject.net.report(0, {FabricErrc::disconnected, "it left"});
  const auto settled = subject.source->settle(epoch ? *epoch : 2, patience);
  ASSERT_FALSE(settled);
  EXPECT_EQ(settled.error().code, FabricErrc::remote_access) << why(settled);
}

TEST(RdmaChannel, AFrozenPeerIsNoticedThoughNothingIsUnderWay) {
  Subject subject({}, "lanes=1&peer-timeout=1", 1 << 20);
  subject.net.hang(0);
  std::array<std::byte, 1> into{};
  const auto received = subject.source->receive(into, Deadline::after(30s));
  ASSERT_FALSE(received);
  EXPECT_TRUE(received.error().is(errc::peer_gone)) << why(received);
}

TEST(RdmaChannel, AnIdleLinkLives) {
  Subject subject({}, "lanes=1&peer-timeout=2", 1 << 20);
  std::array<std::byte, 1> into{};
  const auto received = subject.source->receive(into, Deadline::after(3s));
  ASSERT_FALSE(received);
  EXPECT_TRUE(received.error().is(errc::timed_out)) << why(received);
}

TEST(RdmaChannel, SaysWhatItRunsOn) {
  Subject subject({}, "lanes=3", 1 << 20);
  EXPECT_THAT(subject.source->facts(),
              ::testing::IsSupersetOf({std::pair<std::string, std::string>{"device", "model0"},
                                       {"lanes", "3"},
                                       {"mtu", "4096"},
                                       {"pin", "all"}}));
}

TEST(RdmaChannel, TellsHowLongItHeardOfNothingThatWasOutstanding) {
  Subject subject({}, "lanes=2", 1 << 20);
  const auto silence = [&] {
    for (const auto& [name, value] : subject.source->facts()) {
      if (name == "longest-silence") return std::stoi(value);
    }
    return -1;
  };
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(silence(), 0) << "nothing was outstanding";
  RAMFERRY_EXPECT_OK(subject.place(0, 64 << 10));
  std::this_thread::sleep_for(30ms);
  EXPECT_GE(silence(), 30) << "nothing has settled";
  RAMFERRY_EXPECT_OK(subject.settle());
  const int longest = silence();
  EXPECT_GE(longest, 30);
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(silence(), longest) << "nothing is outstanding any more";
}

// The proof that fences have to be on every lane: with the fence of a lane taken away (the tampered count of
// lanes says that it sent none), the destination must not believe that its writes are in place.
TEST(RdmaChannel, AFenceThatLeavesALaneOutIsNotBelieved) {
  Subject subject({}, "lanes=2", 8 << 20);
  subject.net.tamper_with([](unsigned connection, std::vector<std::byte>& message) {
    if (connection == 0 && message.size() == kHeaderBytes + 32 && message[0] == std::byte{12})
      message[kHeaderBytes + 15] = std::byte{0b01};  // lanes of the fence
  });
  RAMFERRY_EXPECT_OK(subject.lend(0, 8 << 20));
  Result<> outcome = subject.place(0, 8 << 20);
  if (outcome) outcome = subject.settle();
  EXPECT_FALSE(outcome);
}

TEST(RdmaChannel, AMessageThatADeviceHadNoRoomForIsSentAgainAtOnce) {
  ModelPlan plan;
  plan.partial_posts = 0.5;
  // No heartbeat comes to the rescue: the next one is due long after the deadline.
  Subject subject(plan, "lanes=2&peer-timeout=3600", 64 * kPage);
  for (int round = 0; round < 100 && !::testing::Test::HasFailure(); ++round) {
    RAMFERRY_EXPECT_OK(subject.place(0, 64 * kPage));
    RAMFERRY_EXPECT_OK(subject.settle());
  }
}

TEST(RdmaChannel, EveryPageIsRightWhateverTheOrder) {
  const unsigned seeds = test::repetitions(12, 300);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ModelPlan plan;
    plan.seed = seed;
    plan.slow_connection = static_cast<unsigned>(seed % 5);
    plan.partial_posts = seed % 3 == 0 ? 0.2 : 0;
    constexpr std::size_t kPages = 1024;
    Subject subject(plan, seed % 2 == 0 ? "lanes=4" : "lanes=4&pin=demand&pin-budget=1M", kPages * kPage);
    RAMFERRY_EXPECT_OK(subject.lend(0, kPages * kPage));
    std::uint64_t random = seed;
    std::vector<std::uint64_t> content(kPages, 0);
    for (std::uint64_t round = 1; round <= 6; ++round) {
      std::vector<Placement> batch;
      for (std::size_t page = 0; page < kPages; ++page) {
        if (below(random, 3) != 0) continue;
        content[page] = round << 32 | page;
        fill_pattern(subject.local.slice(page * kPage, kPage), content[page]);
        batch.push_back(subject.piece(page * kPage, kPage));
      }
      RAMFERRY_EXPECT_OK(subject.source->place(batch));
      RAMFERRY_EXPECT_OK(subject.source->fence());
      const auto mark = std::array{static_cast<std::byte>(round)};
      RAMFERRY_EXPECT_OK(subject.source->send(mark));
      std::array<std::byte, 1> got{};
      RAMFERRY_EXPECT_OK(receive_exactly(*subject.destination, got, Deadline::after(60s)));
      // The mark has been received: so all of the round is here.
      for (std::size_t page = 0; page < kPages; ++page) {
        if (content[page] == 0) continue;
        ASSERT_TRUE(has_pattern(subject.there.slice(page * kPage, kPage), content[page]))
            << "page " << page << " after round " << round;
      }
      RAMFERRY_EXPECT_OK(subject.settle());
    }
    EXPECT_EQ(subject.net.counts().collisions, 0U);
  }
}

}  // namespace
}  // namespace ramferry::rdma
