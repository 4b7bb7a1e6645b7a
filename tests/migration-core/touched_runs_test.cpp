// SPDX-License-Identifier: MIT
#include "touched_runs.hpp"

#include "test_memory.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace ramferry::migration {
namespace {

using test::kPage;
using test::Memory;
using Runs = std::vector<PageRun>;

void touch(const Memory& memory, std::uint64_t page) {
  static_cast<volatile std::byte&>(memory.page(page)[7]) = std::byte{1};
}

std::byte look(const Memory& memory, std::uint64_t page) {
  return static_cast<const volatile std::byte&>(memory.page(page)[7]);
}

Runs touched(const RamLayout& layout, const PageRun& within) {
  return touched_runs(layout, within).value();
}
Runs touched(const Memory& memory) {
  return touched(memory.layout(), {0, 0, memory.bytes().size() / kPage});
}

/// Memory where untouched pages can be told, by either way of asking the page tables.
struct Way {
  const char* name;
  Memory (*make)(std::uint64_t bytes);
  bool may_scan;
};

Memory make_memfd(std::uint64_t bytes) {
  return Memory::memfd(bytes);
}

class TouchedRuns : public testing::TestWithParam<Way> {
 protected:
  static constexpr std::uint64_t kPages = 3000;
  Runs ask(const PageRun& within) const { return touched_runs_with(layout_, within, GetParam().may_scan); }
  Runs ask() const { return ask({0, 0, kPages}); }

  Memory memory_ = GetParam().make(kPages * kPage);
  RamLayout layout_ = memory_.layout();
};

TEST_P(TouchedRuns, OfFreshMemoryAreNone) {
  EXPECT_EQ(ask(), Runs{});
}

TEST_P(TouchedRuns, AreJoined) {
  for (const std::uint64_t page : {0, 1, 2, 511, 512, 513, 2999}) touch(memory_, page);
  EXPECT_EQ(ask(), (Runs{{0, 0, 3}, {0, 511, 3}, {0, 2999, 1}}));
}

TEST_P(TouchedRuns, OfFullMemoryAreOne) {
  for (std::uint64_t page = 0; page < kPages; ++page) touch(memory_, page);
  EXPECT_EQ(ask(), (Runs{{0, 0, kPages}}));
}

TEST_P(TouchedRuns, StayInsideWhatWasAskedFor) {
  for (std::uint64_t page = 100; page < 200; ++page) touch(memory_, page);
  EXPECT_EQ(ask({0, 0, 100}), Runs{});
  EXPECT_EQ(ask({0, 50, 100}), (Runs{{0, 100, 50}}));
  EXPECT_EQ(ask({0, 150, 10}), (Runs{{0, 150, 10}}));
  EXPECT_EQ(ask({0, 199, 100}), (Runs{{0, 199, 1}}));
  EXPECT_EQ(ask({0, 200, 2800}), Runs{});
  EXPECT_EQ(ask({0, 150, 0}), Runs{});
}

TEST_P(TouchedRuns, IncludePagesWrittenWithZeros) {
  static_cast<volatile std::byte&>(memory_.page(9)[0]) = std::byte{0};
  EXPECT_EQ(ask(), (Runs{{0, 9, 1}}));
}

TEST_P(TouchedRuns, AreCountedInTargetPages) {
  RamBlock block = memory_.block();
  block.page_bytes = 4 * kPage;
  const RamLayout layout = RamLayout::make({block}).value();
  for (const std::uint64_t page : {1, 2, 5, 16, 19}) touch(memory_, page);
  EXPECT_EQ(touched_runs_with(layout, {0, 0, kPages / 4}, GetParam().may_scan), (Runs{{0, 0, 2}, {0, 4, 1}}));
  EXPECT_EQ(touched_runs_with(layout, {0, 1, 3}, GetParam().may_scan), (Runs{{0, 1, 1}}));
}

TEST_P(TouchedRuns, AreFoundWithoutTouching) {
  for (std::uint64_t page = 0; page < kPages; page += 7) touch(memory_, page);
  const std::uint64_t before = test::resident_bytes(memory_.bytes());
  ASSERT_EQ(before, (kPages + 6) / 7 * kPage);
  ask();
  EXPECT_EQ(test::resident_bytes(memory_.bytes()), before);
}

TEST_P(TouchedRuns, AgreeWithAListOfPages) {
  std::mt19937_64 random(5);
  DirtySet model(layout_);
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t page = random() % kPages;
      touch(memory_, page);
      model.mark({0, page, 1});
    }
    const std::uint64_t first = random() % kPages;
    const std::uint64_t count = random() % (kPages - first);
    DirtySet left = model;
    left.clear({0, 0, first});
    left.clear({0, first + count, kPages - first - count});
    Runs expected;
    while (const auto run = left.take(0, 0, kPages)) expected.push_back(*run);
    ASSERT_EQ(ask({0, first, count}), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Each, TouchedRuns,
                         testing::Values(Way{"anonymous", &Memory::anonymous, true},
                                         Way{"anonymous_without_scan", &Memory::anonymous, false},
                                         Way{"memfd", &make_memfd, true}),
                         [](const auto& way) { return way.param.name; });

TEST(TouchedRunsOfPrivateMemory, LeaveOutPagesThatWereOnlyRead) {
  const Memory memory = Memory::anonymous(100 * kPage);
  EXPECT_EQ(look(memory, 3), std::byte{0});
  touch(memory, 5);
  const Runs runs = touched(memory);
  if (runs.size() == 2) GTEST_SKIP() << "this kernel does not tell the page of zeros from others";
  EXPECT_EQ(runs, (Runs{{0, 5, 1}}));
}

TEST(TouchedRunsOfPrivateMemory, AreTheSameOnceArmed) {
  for (const TrackerKind kind : {TrackerKind::pagemap_scan, TrackerKind::userfaultfd}) {
    if (!probe_tracker(kind)) continue;
    const Memory memory = Memory::anonymous(2000 * kPage);
    const RamLayout layout = memory.layout();
    touch(memory, 3);
    NullLog log;
    const auto tracker = make_tracker(kind, layout, log).value();
    ASSERT_TRUE(tracker->arm({0, 0, 2000}));
    touch(memory, 1000);
    const Runs runs = touched(memory);
    EXPECT_EQ(runs, (Runs{{0, 3, 1}, {0, 1000, 1}})) << tracker->name();
  }
}

TEST(TouchedRunsOfSharedMemory, IncludeWhatOthersTouched) {
  const Memory memory = Memory::memfd(100 * kPage);
  void* const second = mmap(nullptr, 100 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd(), 0);
  ASSERT_NE(second, MAP_FAILED);
  static_cast<char*>(second)[20 * kPage] = 1;
  munmap(second, 100 * kPage);
  const char byte = 1;
  ASSERT_EQ(pwrite(memory.fd(), &byte, 1, 40 * kPage), 1);
  EXPECT_EQ(touched(memory), (Runs{{0, 20, 1}, {0, 40, 1}}));
}

TEST(TouchedRunsOfSharedMemory, LeaveTheFilePositionAlone) {
  const Memory memory = Memory::memfd(100 * kPage);
  touch(memory, 50);
  ASSERT_EQ(lseek(memory.fd(), 123, SEEK_SET), 123);
  EXPECT_EQ(touched(memory), (Runs{{0, 50, 1}}));
  EXPECT_EQ(lseek(memory.fd(), 0, SEEK_CUR), 123);
}

TEST(TouchedRunsOfSharedMemory, MayLieInsideTheFile) {
  const Memory whole = Memory::memfd(100 * kPage);
  touch(whole, 10);
  touch(whole, 60);
  touch(whole, 95);
  RamBlock block = whole.block();
  block.host = block.host.subspan(50 * kPage, 30 * kPage);
  block.backing.offset = 50 * kPage;
  const RamLayout layout = RamLayout::make({block}).value();
  EXPECT_EQ(touched(layout, {0, 0, 30}), (Runs{{0, 10, 1}}));
}

TEST(TouchedRunsOfSharedMemory, AreEverythingWhenTheMapSaysOtherwise) {
  const Memory memory = Memory::memfd(100 * kPage), other = Memory::memfd(100 * kPage);
  RamBlock wrong_file = memory.block();
  wrong_file.backing.fd = other.fd();
  EXPECT_EQ(touched(RamLayout::make({wrong_file}).value(), {0, 0, 100}), (Runs{{0, 0, 100}}));
  RamBlock wrong_offset = memory.block();
  wrong_offset.backing.offset = kPage;
  EXPECT_EQ(touched(RamLayout::make({wrong_offset}).value(), {0, 5, 10}), (Runs{{0, 5, 10}}));
}

TEST(TouchedRunsOfSharedMemory, AreEverythingWithoutADescriptor) {
  // Its pages can leave the page tables, so that their absence means nothing.
  const Memory memory = Memory::shared_anonymous(100 * kPage);
  EXPECT_EQ(touched(memory), (Runs{{0, 0, 100}}));
}

TEST(TouchedRunsOfPrivateMemory, AreEverythingWhenAFileIsBehind) {
  const Memory memory = Memory::memfd_private(100 * kPage);
  EXPECT_EQ(touched(memory), (Runs{{0, 0, 100}}));
}

TEST(TouchedRunsOfPrivateMemory, IncludeAnonymousHugePages) {
  constexpr std::uint64_t kHuge = 512 * kPage;
  const auto memory = Memory::huge(3 * kHuge);
  if (!memory) GTEST_SKIP() << "no free huge pages (echo 8 > /proc/sys/vm/nr_hugepages)";
  RamBlock block = memory->block();
  block.backing.page_bytes = kHuge;
  const RamLayout layout = RamLayout::make({block}).value();
  touch(*memory, 600);
  EXPECT_EQ(touched(layout, {0, 0, 1536}), (Runs{{0, 512, 512}}));
  EXPECT_EQ(touched(layout, {0, 700, 10}), (Runs{{0, 700, 10}}));
}

}  // namespace
}  // namespace ramferry::migration
