// SPDX-License-Identifier: MIT
// What a peer can make an end remember, and how the queue of pieces to register lives with refusals.
#include "exposure.hpp"

#include "control_link.hpp"
#include "fabric_model.hpp"
#include "support/test_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace ramferry::rdma {
namespace {

constexpr SlotId kSlot{3};
constexpr std::uint64_t kMiB = 1 << 20;

class ExposureTest : public ::testing::Test {
 protected:
  explicit ExposureTest() { EXPECT_TRUE(exposure_.slots().add(kSlot, landing_)); }

  void want(std::uint64_t offset, std::uint64_t length, bool urgent = false) {
    EXPECT_TRUE(exposure_.on_want({urgent, {{kSlot, offset, length, 0}}}));
  }

  // What is registered with them goes first: it is below.
  testing::ModelNet net_;
  NullLog log_;
  Core core_{log_, {}, *net_.make_fabric()->open_towards({"model", 1}, {}, 16, Deadline::never())};
  test::TestMemory memory_{64 * kMiB};
  MemoryLanding landing_{memory_.bytes(), MemoryLanding::Content::blank};
  Exposure exposure_{{.budget = 64 * kMiB, .chunk = 16 * kMiB}};
};

TEST_F(ExposureTest, QueuesAPieceOnceHoweverOftenItIsWanted) {
  for (std::uint64_t page = 0; page < 1000; ++page) want(page * 4096, 4096);
  for (int again = 0; again < 100; ++again) want(0, std::uint64_t{1000} * 4096, true);
  EXPECT_EQ(exposure_.waiting(), 1000U);
}

TEST_F(ExposureTest, TakesWhatIsUrgentFirstAndEachKindInItsOrder) {
  for (std::uint64_t at = 0; at < 5; ++at) want(at * kMiB, kMiB);
  want(3 * kMiB, kMiB, true);
  want(2 * kMiB, kMiB, true);
  for (const std::uint64_t next : {3, 2, 0, 1, 4}) {
    const auto piece = exposure_.take_work();
    ASSERT_TRUE(piece);
    EXPECT_EQ(piece->offset, next * kMiB);
  }
  EXPECT_FALSE(exposure_.take_work());
}

TEST_F(ExposureTest, GrantsAllOfItUnderALimitThatItHasToFind) {
  constexpr std::uint64_t kLimit = 6 * kMiB;
  want(0, 64 * kMiB);
  std::vector<Grant> grants;
  std::uint64_t granted = 0, pinned = 0;
  for (int turn = 0; granted < 64 * kMiB; ++turn) {
    ASSERT_LT(turn, 1000) << granted;
    // Two at once, as there are two threads that register.
    std::vector<Exposure::Piece> pieces;
    while (pieces.size() < 2) {
      const auto piece = exposure_.take_work();
      if (!piece) break;
      pieces.push_back(*piece);
    }
    for (const Exposure::Piece& piece : pieces) {
      if (pinned + piece.memory.size() > kLimit) {
        EXPECT_TRUE(exposure_.refused(piece));
        continue;
      }
      grants.push_back(exposure_.publish(piece, 0, *core_.pin(piece.memory, Rights::remote_write)));
      pinned += piece.memory.size();
      granted += piece.memory.size();
    }
    if (!pieces.empty()) continue;
    ASSERT_FALSE(grants.empty()) << "nothing is registered, and nothing is tried";
    for (const Grant& each : grants) {
      EXPECT_TRUE(exposure_.on_release({each.slot, each.offset, each.length}));
      exposure_.deregistered(each.length);
    }
    grants.clear();
    pinned = 0;
  }
}

TEST(ControlLinkTest, GivesAPeerUpThatTakesInNoAnswers) {
  testing::ModelNet net;
  NullLog log;
  Core core(log, {}, *net.make_fabric()->open_towards({"model", 1}, {}, 16, Deadline::never()));
  const auto link = ControlLink::make(core, 0, 1000);
  ASSERT_TRUE(link) << link.error().message();
  std::uint64_t posted = 0;
  for (; !core.failure && posted < 2'000'000; ++posted) (*link)->post(ByMessage{kSlot, 1});
  ASSERT_TRUE(core.failure);
  EXPECT_TRUE(core.failure->is(errc::protocol_mismatch)) << core.failure->message();
  EXPECT_GT(posted, kMostPieces) << "so many answers are as it should be";
}

}  // namespace
}  // namespace ramferry::rdma
