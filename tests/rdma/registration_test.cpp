// SPDX-License-Identifier: MIT
// When memory is registered: beside the placing, several pieces at a time, and until the guest runs.
#include "model_pair.hpp"
#include "support/test_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;
using testing::ModelNet;
using testing::ModelPlan;

constexpr SlotId kSlot{3};
constexpr std::size_t kMiB = 1 << 20, kSize = 64 * kMiB;

/// Keeps large registrations waiting until it is opened, or for so long that the test has failed, and counts
/// those that wait.
class Gate {
 public:
  void pass(std::size_t bytes) {
    if (bytes < 4 * kMiB) return;
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    if (!changed_.wait_for(lock, 40s, [this] { return open_; })) was_forced_ = true;
    --waiting_;
  }
  bool wait_for(unsigned waiting) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 30s, [&] { return waiting_ >= waiting; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool was_forced() {
    const std::lock_guard lock(mutex_);
    return was_forced_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned waiting_ = 0;
  bool open_ = false, was_forced_ = false;
};

class Registration : public ::testing::Test {
 protected:
  Registration()
      : net_(ModelPlan{.before_registration = [this](std::size_t bytes) { gate_.pass(bytes); }}),
        local_(kSize),
        there_(kSize),
        landing_(there_.bytes(), MemoryLanding::Content::blank) {
    test::fill_pattern(local_.bytes(), 7);
    auto pair = testing::make_pair_on(net_, SessionId::random(), "lanes=2&pin=all");
    EXPECT_TRUE(pair.has_value());
    pair_ = std::move(*pair);
    EXPECT_TRUE(pair_.destination->expose(kSlot, landing_));
    const std::array plan{Placement{.slot = kSlot, .bytes = local_.bytes()}};
    EXPECT_TRUE(pair_.source->lend(plan));
  }
  ~Registration() override { gate_.open(); }

  Result<> move(std::size_t offset, std::size_t size) {
    const std::array batch{Placement{.slot = kSlot, .offset = offset, .bytes = local_.slice(offset, size)}};
    RAMFERRY_TRY(pair_.source->place(batch));
    RAMFERRY_TRY_ASSIGN(const Epoch epoch, pair_.source->fence());
    return pair_.source->settle(epoch, Deadline::after(60s));
  }
  bool arrived(std::size_t size) const {
    return std::ranges::equal(local_.slice(0, size), there_.slice(0, size));
  }

  Gate gate_;  // outlives what waits at it
  ModelNet net_;
  test::TestMemory local_, there_;
  MemoryLanding landing_;
  test::ChannelPair pair_;
};

TEST_F(Registration, OfTheRestGoesOnWhileTheFirstPagesArrive) {
  ASSERT_TRUE(move(0, kMiB)) << "nothing is held back but pieces of 4 MiB and more";
  EXPECT_TRUE(arrived(kMiB));
  EXPECT_TRUE(gate_.wait_for(1));
  EXPECT_FALSE(gate_.was_forced());
  gate_.open();
  ASSERT_TRUE(move(kMiB, kSize - kMiB));
  EXPECT_TRUE(arrived(kSize));
}

TEST_F(Registration, TakesSeveralPiecesAtATime) {
  EXPECT_TRUE(gate_.wait_for(3)) << "of two ends, so one of them is at two pieces";
}

TEST_F(Registration, EndsOnlyAfterTheWindowsAreClosed) {
  gate_.open();
  ASSERT_TRUE(move(0, kSize));
  ASSERT_TRUE(pair_.destination->revoke(Deadline::after(60s)));
  EXPECT_GE(net_.counts().region_bytes, 2 * kSize) << "taking it back would be a part of the downtime";
  pair_.source.reset();
  pair_.destination.reset();
  EXPECT_EQ(net_.counts().regions, 0U);
}

}  // namespace
}  // namespace ramferry::rdma
