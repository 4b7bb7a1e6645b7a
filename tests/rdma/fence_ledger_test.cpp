// SPDX-License-Identifier: MIT
#include "fence_ledger.hpp"

#include <gtest/gtest.h>

namespace ramferry::rdma {
namespace {

constexpr std::uint32_t kMostOpen = 4;

/// The newest epoch that becomes complete, 0 if none, UINT64_MAX for a failure.
Epoch take(FenceLedger& ledger) {
  const auto done = ledger.take_completed();
  return done ? done->newest : UINT64_MAX;
}

TEST(FenceLedger, AnEpochNeedsEveryPartInAnyOrder) {
  for (int first = 0; first < 3; ++first) {
    FenceLedger ledger(2, kMostOpen);
    for (int i = 0; i < 3; ++i) {
      const int part = (first + i) % 3;
      if (part == 0) {
        ASSERT_TRUE(ledger.on_control({1, 0b11, 5, 50}));
      }
      if (part == 1) {
        ASSERT_TRUE(ledger.on_lane(0, {1, 2, 20}));
      }
      if (part == 2) {
        ASSERT_TRUE(ledger.on_lane(1, {1, 3, 30}));
      }
      EXPECT_EQ(take(ledger), 0U);
    }
    ledger.on_applied(1);
    EXPECT_EQ(take(ledger), 1U);
    EXPECT_EQ(ledger.completed(), 1U);
  }
  for (int last = 1; last < 3; ++last) {
    FenceLedger ledger(2, kMostOpen);
    ASSERT_TRUE(ledger.on_control({1, 0b11, 2, 20}));
    ledger.on_applied(1);
    ASSERT_TRUE(ledger.on_lane(last == 1 ? 1 : 0, {1, 1, 10}));
    EXPECT_EQ(take(ledger), 0U) << "a lane is missing";
    ASSERT_TRUE(ledger.on_lane(last == 1 ? 0 : 1, {1, 1, 10}));
    EXPECT_EQ(take(ledger), 1U);
  }
}

TEST(FenceLedger, LanesWithoutWritesSendNoFence) {
  FenceLedger ledger(2, kMostOpen);
  ASSERT_TRUE(ledger.on_control({1, 0, 0, 0}));
  ledger.on_applied(1);
  EXPECT_EQ(take(ledger), 1U);
}

TEST(FenceLedger, EpochsCompleteInOrder) {
  FenceLedger ledger(2, kMostOpen);
  ASSERT_TRUE(ledger.on_control({1, 0b01, 1, 10}));
  ASSERT_TRUE(ledger.on_control({2, 0b10, 1, 20}));
  ledger.on_applied(1);
  ledger.on_applied(2);
  ASSERT_TRUE(ledger.on_lane(1, {2, 1, 20}));
  EXPECT_EQ(take(ledger), 0U);
  ASSERT_TRUE(ledger.on_lane(0, {1, 1, 10}));
  const auto done = ledger.take_completed();
  ASSERT_TRUE(done);
  EXPECT_EQ(done->newest, 2U);
  EXPECT_EQ(done->bytes, 30U);
}

TEST(FenceLedger, RefusesWhatCannotBe) {
  FenceLedger ledger(2, kMostOpen);
  EXPECT_FALSE(ledger.on_control({2, 0, 0, 0})) << "an epoch was left out";
  EXPECT_FALSE(ledger.on_control({1, 0b100, 0, 0})) << "there is no third lane";
  ASSERT_TRUE(ledger.on_control({1, 0b01, 1, 1}));
  EXPECT_FALSE(ledger.on_control({1, 0b01, 1, 1})) << "repeated";
  ASSERT_TRUE(ledger.on_lane(0, {1, 1, 1}));
  EXPECT_FALSE(ledger.on_lane(0, {1, 1, 1})) << "repeated";
  EXPECT_FALSE(ledger.on_lane(0, {0, 1, 1}));
  EXPECT_FALSE(ledger.on_lane(0, {kMostOpen + 1, 1, 1})) << "too far ahead";
  EXPECT_FALSE(ledger.on_lane(0, {UINT64_MAX, 1, 1}));
  ledger.on_applied(1);
  EXPECT_EQ(take(ledger), 1U);
  EXPECT_FALSE(ledger.on_lane(0, {1, 1, 1})) << "over";
}

TEST(FenceLedger, RefusesCountsThatDiffer) {
  for (const FenceMessage& told : {FenceMessage{1, 0b11, 3, 30}, FenceMessage{1, 0b11, 2, 31}}) {
    FenceLedger ledger(2, kMostOpen);
    ASSERT_TRUE(ledger.on_control(told));
    ledger.on_applied(1);
    ASSERT_TRUE(ledger.on_lane(0, {1, 1, 10}));
    ASSERT_TRUE(ledger.on_lane(1, {1, 1, 20}));
    EXPECT_EQ(take(ledger), UINT64_MAX);
  }
}

TEST(FenceLedger, RefusesAFenceOnALaneThatIsNotNamed) {
  FenceLedger ledger(2, kMostOpen);
  ASSERT_TRUE(ledger.on_lane(1, {1, 0, 0}));
  ASSERT_TRUE(ledger.on_control({1, 0, 0, 0}));
  ledger.on_applied(1);
  EXPECT_EQ(take(ledger), UINT64_MAX);
}

}  // namespace
}  // namespace ramferry::rdma
