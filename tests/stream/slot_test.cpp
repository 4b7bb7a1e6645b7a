// SPDX-License-Identifier: MIT
#include "support/test_memory.hpp"

#include <ramferry/slot.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <vector>

namespace ramferry {
namespace {

using test::is_all;
using test::kPage;
using test::TestMemory;

constexpr SlotId kSlot{7};

class SlotTableTest : public ::testing::Test {
 protected:
  errc condition_of(std::uint64_t offset, std::uint64_t length, SlotId slot = kSlot) const {
    const auto found = table_.find(slot, offset, length);
    if (found) return errc{};
    EXPECT_TRUE(found.error().is(errc::protocol_mismatch));
    return errc::protocol_mismatch;
  }

  TestMemory memory_{2 * kPage};
  MemoryLanding landing_{memory_.bytes(), MemoryLanding::Content::unknown};
  SlotTable table_;
};

TEST_F(SlotTableTest, FindsWhatWasAdded) {
  EXPECT_FALSE(table_.find(kSlot, 0, 1));
  ASSERT_TRUE(table_.add(kSlot, landing_));
  EXPECT_EQ(table_.find(kSlot, 0, 1).value(), &landing_);
  EXPECT_FALSE(table_.find(SlotId{8}, 0, 1));
}

TEST_F(SlotTableTest, ChecksRangesWithoutOverflow) {
  ASSERT_TRUE(table_.add(kSlot, landing_));
  const std::uint64_t size = 2 * kPage;
  EXPECT_EQ(condition_of(0, size), errc{});
  EXPECT_EQ(condition_of(size, 0), errc{});
  EXPECT_EQ(condition_of(size - 1, 1), errc{});
  EXPECT_EQ(condition_of(0, size + 1), errc::protocol_mismatch);
  EXPECT_EQ(condition_of(size, 1), errc::protocol_mismatch);
  EXPECT_EQ(condition_of(size + 1, 0), errc::protocol_mismatch);
  EXPECT_EQ(condition_of(UINT64_MAX, 2), errc::protocol_mismatch);
  EXPECT_EQ(condition_of(2, UINT64_MAX), errc::protocol_mismatch);
  EXPECT_EQ(condition_of(UINT64_MAX, UINT64_MAX), errc::protocol_mismatch);
}

TEST_F(SlotTableTest, ANumberIsTakenOnce) {
  ASSERT_TRUE(table_.add(kSlot, landing_));
  const auto again = table_.add(kSlot, landing_);
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().is(errc::in_use));
}

TEST_F(SlotTableTest, RevokeForgetsAllForGood) {
  ASSERT_TRUE(table_.add(kSlot, landing_));
  table_.revoke();
  table_.revoke();
  EXPECT_EQ(condition_of(0, 1), errc::protocol_mismatch);
  const auto later = table_.add(SlotId{8}, landing_);
  ASSERT_FALSE(later);
  EXPECT_TRUE(later.error().is(errc::wrong_state));
}

TEST(MemoryLanding, ItsWindowIsTheMemory) {
  const TestMemory memory(3 * kPage);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::blank);
  EXPECT_EQ(landing.size(), 3 * kPage);
  EXPECT_EQ(landing.window(5, 10).data(), memory.bytes().data() + 5);
  EXPECT_EQ(landing.window(5, 10).size(), 10U);
}

TEST(MemoryLanding, TakesNoEncodedBytes) {
  const TestMemory memory(kPage);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::unknown);
  const auto outcome = landing.store(0, 10, 3, {});
  ASSERT_FALSE(outcome);
  EXPECT_TRUE(outcome.error().is(errc::unsupported));
}

TEST(MemoryLanding, ZeroingBlankMemoryTouchesNothing) {
  const TestMemory memory(1000 * kPage + 5);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::blank);
  EXPECT_TRUE(landing.zero(0, landing.size()));
  EXPECT_EQ(test::resident_pages(memory.bytes()), 0U);
}

TEST(MemoryLanding, ZeroingUnknownMemoryWritesOnlyToWhatIsNotZero) {
  const TestMemory memory(64 * kPage);
  memory.bytes()[5 * kPage] = std::byte{1};
  // A write to any page but that one would end this program.
  ASSERT_EQ(::mprotect(memory.bytes().data(), 5 * kPage, PROT_READ), 0);
  ASSERT_EQ(::mprotect(memory.bytes().data() + 6 * kPage, 58 * kPage, PROT_READ), 0);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::unknown);
  EXPECT_TRUE(landing.zero(0, landing.size()));
  EXPECT_TRUE(is_all(memory.bytes(), std::byte{0}));
}

TEST(MemoryLanding, RemembersExactlyWhichPagesWereWritten) {
  constexpr std::size_t kPages = 200;
  std::mt19937_64 random(1);
  for (int round = 0; round < 100; ++round) {
    const TestMemory memory(kPages * kPage);
    MemoryLanding landing(memory.bytes(), MemoryLanding::Content::blank);
    std::vector<bool> written(kPages);
    for (auto left = random() % 6; left > 0; --left) {
      const std::uint64_t offset = random() % (kPages * kPage);
      const std::uint64_t length =
          random() % std::min<std::uint64_t>(kPages * kPage - offset + 1, 90 * kPage);
      landing.note_written(offset, length);
      if (length == 0) continue;
      for (std::uint64_t page = offset / kPage; page <= (offset + length - 1) / kPage; ++page)
        written[page] = true;
    }
    // Put something into every page behind its back: zero() must look at those that were noted, and only
    // those.
    for (std::size_t page = 0; page < kPages; ++page) memory.bytes()[page * kPage] = std::byte{1};
    EXPECT_TRUE(landing.zero(0, landing.size()));
    for (std::size_t page = 0; page < kPages; ++page)
      ASSERT_EQ(memory.bytes()[page * kPage] == std::byte{0}, written[page])
          << "round " << round << " page " << page;
  }
}

TEST(MemoryLanding, ZeroSparesItsNeighbours) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::byte> memory(5 * kPage, std::byte{0xaa});
    MemoryLanding landing(memory, MemoryLanding::Content::unknown);
    const std::size_t offset = random() % memory.size(), length = random() % (memory.size() - offset + 1);
    EXPECT_TRUE(landing.zero(offset, length));
    const Bytes all(memory);
    ASSERT_TRUE(is_all(all.first(offset), std::byte{0xaa}));
    ASSERT_TRUE(is_all(all.subspan(offset, length), std::byte{0}));
    ASSERT_TRUE(is_all(all.subspan(offset + length), std::byte{0xaa}));
  }
}

}  // namespace
}  // namespace ramferry
