// SPDX-License-Identifier: MIT
#include "test_memory.hpp"

#include <ramferry/migration/page_planner.hpp>

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace ramferry::migration {
namespace {

using test::kPage;
using test::Memory;

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();
using Runs = std::vector<PageRun>;

/// Blocks of 200 and 100 pages, all zero; some pages get content.
class PagePlannerTest : public testing::Test {
 protected:
  void fill(std::uint32_t block, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t page = first; page < first + count; ++page)
      layout_.memory({block, page, 1})[(page * 97) % kPage] = std::byte{1};
  }

  Memory low_ = Memory::anonymous(200 * kPage), high_ = Memory::anonymous(100 * kPage);
  RamLayout layout_ = RamLayout::make({low_.block("low"), high_.block("high")}).value();
  DirtySet dirty_{layout_}, outstanding_{layout_};
};

TEST_F(PagePlannerTest, OfNothingMakesEmptyBatches) {
  PagePlanner planner(layout_);
  EXPECT_TRUE(planner.next(dirty_, outstanding_, kNoLimit).empty());
  EXPECT_TRUE(planner.next(dirty_, outstanding_, kNoLimit).empty());
}

TEST_F(PagePlannerTest, SetsZeroPagesApart) {
  fill(0, 60, 10);
  fill(1, 0, 1);
  dirty_.mark({0, 50, 40});
  dirty_.mark({1, 0, 2});
  PagePlanner planner(layout_);
  const PageBatch batch = planner.next(dirty_, outstanding_, kNoLimit);
  EXPECT_EQ(batch.pages, (Runs{{0, 60, 10}, {1, 0, 1}}));
  EXPECT_EQ(batch.zeros, (Runs{{0, 50, 10}, {0, 70, 20}, {1, 1, 1}}));
  EXPECT_EQ(batch.bytes, 11 * kPage);
  EXPECT_TRUE(dirty_.empty());
}

TEST_F(PagePlannerTest, SendsAllInFullWhenToldNotToLook) {
  fill(0, 60, 10);
  dirty_.mark({0, 50, 40});
  PagePlanner planner(layout_, PagePlanner::ZeroPages::ignore);
  const PageBatch batch = planner.next(dirty_, outstanding_, kNoLimit);
  EXPECT_EQ(batch.pages, (Runs{{0, 50, 40}}));
  EXPECT_TRUE(batch.zeros.empty());
  EXPECT_EQ(batch.bytes, 40 * kPage);
}

TEST_F(PagePlannerTest, JoinsAdjacentPagesUpToTheBudget) {
  fill(0, 0, 200);
  dirty_.mark({0, 10, 150});
  PagePlanner planner(layout_);
  EXPECT_EQ(planner.next(dirty_, outstanding_, 100 * kPage + 1).pages, (Runs{{0, 10, 100}}));
  EXPECT_EQ(planner.next(dirty_, outstanding_, 100 * kPage).pages, (Runs{{0, 110, 50}}));
  EXPECT_TRUE(planner.next(dirty_, outstanding_, 100 * kPage).empty());
}

TEST_F(PagePlannerTest, JoinsAcrossZeroPagesThatWereLookedAtInPieces) {
  fill(0, 0, 1);
  dirty_.mark({0, 0, 100});
  PagePlanner planner(layout_);
  const PageBatch batch = planner.next(dirty_, outstanding_, 20 * kPage);
  EXPECT_EQ(batch.pages, (Runs{{0, 0, 1}}));
  EXPECT_EQ(batch.zeros, (Runs{{0, 1, 99}}));
}

TEST_F(PagePlannerTest, SendsOnePageHoweverSmallTheBudget) {
  fill(0, 0, 2);
  dirty_.mark({0, 0, 2});
  PagePlanner planner(layout_);
  EXPECT_EQ(planner.next(dirty_, outstanding_, 0).pages, (Runs{{0, 0, 1}}));
  EXPECT_EQ(planner.next(dirty_, outstanding_, 1).pages, (Runs{{0, 1, 1}}));
}

TEST_F(PagePlannerTest, DoesNotScanAnEmptyGuestInOneGo) {
  dirty_.mark_all();
  PagePlanner planner(layout_);
  const PageBatch batch = planner.next(dirty_, outstanding_, 4 * kPage);
  EXPECT_TRUE(batch.pages.empty());
  EXPECT_EQ(batch.zeros, (Runs{{0, 0, 32}}));
}

TEST_F(PagePlannerTest, GoesOnWhereItWasAndTellsTheEnd) {
  fill(0, 0, 200);
  dirty_.mark({0, 100, 2});
  PagePlanner planner(layout_);
  EXPECT_EQ(planner.next(dirty_, outstanding_, kPage).pages, (Runs{{0, 100, 1}}));
  dirty_.mark({0, 5, 1});
  dirty_.mark({0, 150, 1});
  EXPECT_EQ(planner.next(dirty_, outstanding_, kNoLimit).pages, (Runs{{0, 101, 1}, {0, 150, 1}}));
  EXPECT_TRUE(planner.next(dirty_, outstanding_, kNoLimit).empty())
      << "end of the round, though page 5 is dirty";
  EXPECT_EQ(planner.next(dirty_, outstanding_, kNoLimit).pages, (Runs{{0, 5, 1}}));
}

TEST_F(PagePlannerTest, DefersWhatIsOutstanding) {
  fill(0, 0, 200);
  dirty_.mark({0, 0, 10});
  outstanding_.mark({0, 3, 2});
  PagePlanner planner(layout_);
  EXPECT_EQ(planner.next(dirty_, outstanding_, kNoLimit).pages, (Runs{{0, 0, 3}, {0, 5, 5}}));
  EXPECT_TRUE(planner.next(dirty_, outstanding_, kNoLimit).empty());
  EXPECT_EQ(dirty_.pages(), 2U);
  outstanding_.clear_all();
  EXPECT_EQ(planner.next(dirty_, outstanding_, kNoLimit).pages, (Runs{{0, 3, 2}}));
}

TEST_F(PagePlannerTest, KeepsTheBudgetWhenPageSizesDiffer) {
  RamBlock large = high_.block("high");
  large.page_bytes = 4 * kPage;
  const RamLayout mixed = RamLayout::make({low_.block("low"), large}).value();
  DirtySet dirty(mixed);
  const DirtySet outstanding(mixed);
  dirty.mark({0, 190, 10});
  dirty.mark({1, 0, 25});
  PagePlanner planner(mixed, PagePlanner::ZeroPages::ignore);
  std::uint64_t bytes = 0;
  for (PageBatch batch = planner.next(dirty, outstanding, 13 * kPage); !batch.empty();
       batch = planner.next(dirty, outstanding, 13 * kPage)) {
    EXPECT_LE(batch.bytes, 13 * kPage);
    bytes += batch.bytes;
  }
  EXPECT_EQ(bytes, 110 * kPage);
}

/// Every page that is dirty and not outstanding comes out exactly once per round, in order, of the right
/// kind.
TEST_F(PagePlannerTest, ARoundCoversEachPageOnceUnderRandomPatterns) {
  std::mt19937_64 random(11);
  const int rounds = test::long_run() ? 5000 : 300;
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    fill(static_cast<std::uint32_t>(random() % 2), random() % 100, 1);
    outstanding_.clear_all();
    for (int i = 0; i < 10; ++i) {
      const std::uint64_t first = random() % 90;
      dirty_.mark({static_cast<std::uint32_t>(random() % 2), first, random() % 10});
      outstanding_.mark({static_cast<std::uint32_t>(random() % 2), first + random() % 5, random() % 3});
    }
    DirtySet expected = dirty_;
    PagePlanner planner(layout_);
    const std::uint64_t budget = (1 + random() % 20) * kPage;
    PageRun last{};
    for (PageBatch batch = planner.next(dirty_, outstanding_, budget); !batch.empty();
         batch = planner.next(dirty_, outstanding_, budget)) {
      ASSERT_LE(batch.bytes, budget);
      for (const bool zero : {false, true}) {
        for (const PageRun& run : zero ? batch.zeros : batch.pages) {
          for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
            ASSERT_TRUE(expected.contains(run.block, page)) << "sent twice, or never dirty";
            ASSERT_FALSE(outstanding_.contains(run.block, page));
            const Bytes bytes = layout_.memory({run.block, page, 1});
            ASSERT_EQ(bytes[(page * 97) % kPage] == std::byte{0}, zero);
          }
          ASSERT_TRUE(run.block > last.block || run.first >= last.first || zero) << "backwards";
          expected.clear(run);
          if (!zero) last = run;
        }
      }
    }
    for (std::uint32_t block = 0; block < 2; ++block)
      for (std::size_t word = 0; word < expected.words(block).size(); ++word) {
        ASSERT_EQ(expected.words(block)[word], dirty_.words(block)[word]);
        ASSERT_EQ(dirty_.words(block)[word] & ~outstanding_.words(block)[word], 0U) << "left behind";
      }
  }
}

}  // namespace
}  // namespace ramferry::migration
