// SPDX-License-Identifier: MIT
#include "test_memory.hpp"
#include "zero_loops.hpp"

#include <ramferry/migration/dirty_set.hpp>
#include <ramferry/migration/zero_page.hpp>
#include <ramferry/zero_scan.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace ramferry::migration {
namespace {

using test::kPage;
using test::Memory;

struct Scan {
  const char* name;
  ZeroScan scan;
};

/// Every loop that this CPU runs, is_zero() among them.
std::vector<Scan> scans() {
  std::vector<Scan> all{{"is_zero", &is_zero}, {"portable", &scan_portable}};
  if (scan_avx2() != nullptr) all.push_back({"avx2", scan_avx2()});
  return all;
}

TEST(ZeroPage, FindsAnySingleBitOfAPage) {
  std::vector<std::byte> page(kPage);
  for (const Scan& scan : scans()) {
    ASSERT_TRUE(scan.scan(page)) << scan.name;
    for (std::size_t bit = 0; bit < kPage * 8; ++bit) {
      page[bit / 8] = std::byte{1} << (bit % 8);
      ASSERT_FALSE(scan.scan(page)) << scan.name << " bit " << bit;
      page[bit / 8] = std::byte{0};
    }
  }
}

TEST(ZeroPage, LooksAtNothingOutsideAndAtEverythingInside) {
  constexpr std::size_t kMost = 700;
  std::vector<std::byte> bytes(kMost + 64, std::byte{0xff});
  for (const Scan& scan : scans())
    for (std::size_t from : {0, 1, 7, 8, 31, 32})
      for (std::size_t size = 0; size <= kMost - 32; ++size) {
        const Bytes part = Bytes(bytes).subspan(from, size);
        std::fill(part.begin(), part.end(), std::byte{0});
        ASSERT_TRUE(scan.scan(part)) << scan.name << " " << from << "+" << size;
        if (size > 0) {
          part.back() = std::byte{1};
          ASSERT_FALSE(scan.scan(part)) << scan.name << " " << from << "+" << size;
        }
        std::fill(part.begin(), part.end(), std::byte{0xff});
      }
}

TEST(ZeroPage, ReadsNoByteBehindThePage) {
  const Memory memory = Memory::anonymous(2 * kPage);
  ASSERT_EQ(mprotect(memory.page(1).data(), kPage, PROT_NONE), 0);
  for (const Scan& scan : scans()) EXPECT_TRUE(scan.scan(memory.page(0))) << scan.name;
}

RAMFERRY_RACES_ON_PURPOSE void guest_store(std::byte& at, std::byte value) {
  *static_cast<volatile std::byte*>(&at) = value;
}

TEST(ZeroPage, MayBeLookedAtWhileTheGuestWrites) {
  const Memory memory = Memory::anonymous(16 * kPage);
  std::atomic<bool> stop{false};
  std::thread guest([&] {
    for (std::size_t i = 0; !stop; ++i) {
      guest_store(memory.bytes()[i * 977 % memory.bytes().size()], std::byte{1});
      guest_store(memory.bytes()[i * 977 % memory.bytes().size()], std::byte{0});
    }
  });
  const RamLayout layout = memory.layout();
  for (int i = 0; i < 2000; ++i) {
    std::vector<PageRun> pages, zeros;
    const std::uint64_t not_zero = split_zeros(layout, {0, 0, 16}, pages, zeros);
    std::uint64_t sum = 0;
    for (const PageRun& run : pages) sum += run.count;
    ASSERT_EQ(sum, not_zero);
    for (const PageRun& run : zeros) sum += run.count;
    ASSERT_EQ(sum, 16U);
  }
  stop = true;
  guest.join();
}

TEST(SplitZeros, GivesAlternatingRuns) {
  const Memory memory = Memory::anonymous(10 * kPage);
  for (const std::uint64_t page : {0, 1, 4, 9}) memory.page(page)[page * 400] = std::byte{7};
  std::vector<PageRun> pages, zeros;
  EXPECT_EQ(split_zeros(memory.layout(), {0, 0, 10}, pages, zeros), 4U);
  EXPECT_EQ(pages, (std::vector<PageRun>{{0, 0, 2}, {0, 4, 1}, {0, 9, 1}}));
  EXPECT_EQ(zeros, (std::vector<PageRun>{{0, 2, 2}, {0, 5, 4}}));
}

TEST(SplitZeros, ProlongsTheLastRunOfEachList) {
  const Memory memory = Memory::anonymous(8 * kPage);
  memory.page(3)[0] = std::byte{1};
  std::vector<PageRun> pages, zeros;
  EXPECT_EQ(split_zeros(memory.layout(), {0, 0, 2}, pages, zeros), 0U);
  EXPECT_EQ(split_zeros(memory.layout(), {0, 2, 2}, pages, zeros), 1U);
  EXPECT_EQ(split_zeros(memory.layout(), {0, 4, 4}, pages, zeros), 0U);
  EXPECT_EQ(split_zeros(memory.layout(), {0, 8, 0}, pages, zeros), 0U);
  EXPECT_EQ(pages, (std::vector<PageRun>{{0, 3, 1}}));
  EXPECT_EQ(zeros, (std::vector<PageRun>{{0, 0, 3}, {0, 4, 4}}));
}

TEST(SplitZeros, AgreesWithALookAtEachByte) {
  std::mt19937_64 random(7);
  for (const std::uint64_t page_bytes : {kPage, 4 * kPage}) {
    const Memory memory = Memory::anonymous(64 * page_bytes);
    RamBlock block = memory.block();
    block.page_bytes = page_bytes;
    const RamLayout layout = RamLayout::make({block}).value();
    for (int round = 0; round < 100; ++round) {
      for (std::uint64_t page = 0; page < 64; ++page)
        memory.page(page, page_bytes)[random() % page_bytes] = std::byte(random() % 3 == 0);
      std::vector<PageRun> pages, zeros;
      split_zeros(layout, {0, 0, 64}, pages, zeros);
      DirtySet found(layout);
      for (const PageRun& run : pages) found.mark(run);
      for (std::uint64_t page = 0; page < 64; ++page) {
        const ConstBytes bytes = memory.page(page, page_bytes);
        const bool zero =
            std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
        ASSERT_EQ(found.contains(0, page), !zero);
      }
    }
  }
}

}  // namespace
}  // namespace ramferry::migration
