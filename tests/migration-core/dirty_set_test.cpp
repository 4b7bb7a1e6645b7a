// SPDX-License-Identifier: MIT
#include <ramferry/migration/dirty_set.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace ramferry::migration {
namespace {

constexpr std::uint64_t kPage = 4096;

/// A layout of blocks with these numbers of pages; a layout never looks at memory.
RamLayout layout_of(const std::vector<std::uint64_t>& pages) {
  std::vector<RamBlock> blocks;
  std::uint64_t address = kPage;
  for (const std::uint64_t count : pages) {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast,performance-no-int-to-ptr)
    const Bytes host(reinterpret_cast<std::byte*>(address), count * kPage);
    blocks.push_back({.name = "block" + std::to_string(blocks.size()), .host = host});
    address += count * kPage;
  }
  return RamLayout::make(std::move(blocks)).value();
}

TEST(DirtySet, BeginsEmpty) {
  const RamLayout layout = layout_of({100});
  DirtySet set(layout);
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.take(0, 0, 1000), std::nullopt);
}

TEST(DirtySet, CountsEachPageOnceHoweverOftenMarked) {
  const RamLayout layout = layout_of({200});
  DirtySet set(layout);
  set.mark({0, 10, 100});
  set.mark({0, 50, 100});
  EXPECT_EQ(set.pages(), 140U);
  set.clear({0, 0, 60});
  EXPECT_EQ(set.pages(), 90U);
  EXPECT_FALSE(set.contains(0, 59));
  EXPECT_TRUE(set.contains(0, 60));
  set.clear({0, 0, 200});
  EXPECT_TRUE(set.empty());
}

TEST(DirtySet, TakeReturnsEachDirtyPageOnce) {
  const RamLayout layout = layout_of({300});
  DirtySet set(layout);
  set.mark({0, 3, 2});
  set.mark({0, 64, 1});
  EXPECT_EQ(set.take(0, 0, 1000), (PageRun{0, 3, 2}));
  EXPECT_EQ(set.take(0, 0, 1000), (PageRun{0, 64, 1}));
  EXPECT_EQ(set.take(0, 0, 1000), std::nullopt);
  EXPECT_TRUE(set.empty());
}

TEST(DirtySet, TakeJoinsPagesAcrossWords) {
  const RamLayout layout = layout_of({300});
  DirtySet set(layout);
  set.mark({0, 60, 200});
  EXPECT_EQ(set.take(0, 0, 1000), (PageRun{0, 60, 200}));
}

TEST(DirtySet, TakeStopsAtTheLimitAndGoesOnThere) {
  const RamLayout layout = layout_of({300});
  DirtySet set(layout);
  set.mark({0, 60, 200});
  EXPECT_EQ(set.take(0, 0, 0), std::nullopt);
  EXPECT_EQ(set.take(0, 0, 70), (PageRun{0, 60, 70}));
  EXPECT_EQ(set.pages(), 130U);
  EXPECT_EQ(set.take(0, 0, 1000), (PageRun{0, 130, 130}));
}

TEST(DirtySet, TakeBeginsAtTheGivenPageAndCrossesIntoLaterBlocks) {
  const RamLayout layout = layout_of({65, 1, 130});
  DirtySet set(layout);
  set.mark_all();
  EXPECT_EQ(set.take(0, 64, 1000), (PageRun{0, 64, 1}));
  EXPECT_EQ(set.take(0, 65, 1000), (PageRun{1, 0, 1}));
  EXPECT_EQ(set.take(1, 1, 1000), (PageRun{2, 0, 130}));
  EXPECT_EQ(set.take(0, 0, 1000), (PageRun{0, 0, 64})) << "pages before the cursor stay";
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.take(3, 0, 1000), std::nullopt) << "past the last block there is nothing";
}

TEST(DirtySet, TakeLeavesOutWhatIsExceptedAndKeepsIt) {
  const RamLayout layout = layout_of({200});
  DirtySet set(layout);
  DirtySet outstanding(layout);
  set.mark({0, 0, 200});
  outstanding.mark({0, 0, 2});
  outstanding.mark({0, 70, 1});
  EXPECT_EQ(set.take(0, 0, 1000, &outstanding), (PageRun{0, 2, 68}));
  EXPECT_EQ(set.take(0, 0, 1000, &outstanding), (PageRun{0, 71, 129}));
  EXPECT_EQ(set.take(0, 0, 1000, &outstanding), std::nullopt);
  EXPECT_EQ(set.pages(), 3U);
  outstanding.clear_all();
  EXPECT_EQ(set.take(0, 0, 1000, &outstanding), (PageRun{0, 0, 2}));
  EXPECT_EQ(set.take(0, 0, 1000, &outstanding), (PageRun{0, 70, 1}));
}

TEST(DirtySet, MarkAllReachesTheLastPageAndNotBeyond) {
  for (const std::uint64_t pages : {1, 63, 64, 65, 127, 128, 129}) {
    const RamLayout layout = layout_of({pages, 5});
    DirtySet set(layout);
    set.mark_all();
    EXPECT_EQ(set.pages(), pages + 5);
    EXPECT_TRUE(set.contains(0, pages - 1));
    EXPECT_FALSE(set.contains(0, pages));
    EXPECT_FALSE(set.contains(2, 0));
    EXPECT_EQ(set.take(0, 0, 1000), (PageRun{0, 0, pages}));
  }
}

TEST(DirtySet, MergeIsAUnion) {
  const RamLayout layout = layout_of({130, 10});
  DirtySet set(layout);
  DirtySet newer(layout);
  set.mark({0, 0, 66});
  newer.mark({0, 64, 66});
  newer.mark({1, 9, 1});
  set.merge(newer);
  EXPECT_EQ(set.pages(), 131U);
  EXPECT_EQ(set.take(0, 0, 1000), (PageRun{0, 0, 130}));
  EXPECT_EQ(newer.pages(), 67U) << "the other set is left as it was";
}

TEST(DirtySet, WordsShowTheLowestPageAsTheLowestBit) {
  const RamLayout layout = layout_of({70});
  DirtySet set(layout);
  set.mark({0, 1, 1});
  set.mark({0, 69, 1});
  ASSERT_EQ(set.words(0).size(), 2U);
  EXPECT_EQ(set.words(0)[0], 2U);
  EXPECT_EQ(set.words(0)[1], 1U << 5);
}

/// The same operations on the set and on a set of numbers must always agree.
class Model {
 public:
  explicit Model(std::uint64_t seed) : random_(seed) {
    for (std::uint64_t blocks = below(4) + 1; blocks > 0; --blocks) sizes_.push_back(below(260) + 1);
    const RamLayout layout = layout_of(sizes_);
    sets_.assign(2, DirtySet(layout));
    models_.resize(2);
  }

  void step() {
    const std::size_t which = below(2);
    switch (below(8)) {
      case 0:
      case 1:
      case 2: mark(which); break;
      case 3: clear(which); break;
      case 4:
      case 5:
      case 6: take(which); break;
      default: rare(which); break;
    }
    ASSERT_EQ(sets_[which].pages(), models_[which].size());
    ASSERT_EQ(sets_[which].empty(), models_[which].empty());
  }

  void compare() const {
    for (std::size_t which = 0; which < 2; ++which)
      for (std::uint32_t block = 0; block < sizes_.size(); ++block)
        for (std::uint64_t page = 0; page < sizes_[block]; ++page)
          ASSERT_EQ(sets_[which].contains(block, page), models_[which].count({block, page}) == 1);
  }

 private:
  using Pages = std::set<std::pair<std::uint32_t, std::uint64_t>>;

  std::uint64_t below(std::uint64_t end) { return random_() % end; }
  PageRun any_run() {
    const auto block = static_cast<std::uint32_t>(below(sizes_.size()));
    const std::uint64_t first = below(sizes_[block] + 1);
    const std::uint64_t most = below(3) == 0 ? sizes_[block] : 5;
    return {block, first, below(std::min(most, sizes_[block] - first) + 1)};
  }
  void mark(std::size_t which) {
    const PageRun run = any_run();
    sets_[which].mark(run);
    for (std::uint64_t at = 0; at < run.count; ++at) models_[which].insert({run.block, run.first + at});
  }
  void clear(std::size_t which) {
    const PageRun run = any_run();
    sets_[which].clear(run);
    for (std::uint64_t at = 0; at < run.count; ++at) models_[which].erase({run.block, run.first + at});
  }
  void rare(std::size_t which) {
    if (below(20) == 0) {
      sets_[which].clear_all();
      models_[which].clear();
    } else {
      sets_[which].merge(sets_[1 - which]);
      models_[which].insert(models_[1 - which].begin(), models_[1 - which].end());
    }
  }
  void take(std::size_t which) {
    const PageRun from = any_run();
    const std::uint64_t most = below(3) == 0 ? below(300) : below(8);
    const bool leave_out = below(2) == 0;
    const auto taken =
        sets_[which].take(from.block, from.first, most, leave_out ? &sets_[1 - which] : nullptr);

    const auto may_go = [&](const Pages::value_type& page) {
      return models_[which].count(page) == 1 && !(leave_out && models_[1 - which].count(page) == 1);
    };
    auto lowest = models_[which].lower_bound({from.block, from.first});
    while (lowest != models_[which].end() && !may_go(*lowest)) ++lowest;
    if (most == 0 || lowest == models_[which].end()) {
      ASSERT_EQ(taken, std::nullopt);
      return;
    }
    PageRun expected{lowest->first, lowest->second, 0};
    while (expected.count < most && may_go({expected.block, expected.first + expected.count}))
      ++expected.count;
    ASSERT_EQ(taken, expected);
    for (std::uint64_t at = 0; at < expected.count; ++at)
      models_[which].erase({expected.block, expected.first + at});
  }

  std::mt19937_64 random_;
  std::vector<std::uint64_t> sizes_;
  std::vector<DirtySet> sets_;
  std::vector<Pages> models_;
};

TEST(DirtySet, AgreesWithASetOfNumbersUnderRandomOperations) {
  const std::uint64_t seeds = std::getenv("RAMFERRY_LONG") != nullptr ? 3000 : 150;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(seed);
    Model model(seed);
    for (int step = 0; step < 200; ++step) {
      model.step();
      if (testing::Test::HasFatalFailure()) return;
    }
    model.compare();
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace ramferry::migration
