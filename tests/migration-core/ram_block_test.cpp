// SPDX-License-Identifier: MIT
#include <ramferry/migration/ram_block.hpp>

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace ramferry::migration {
namespace {

constexpr std::uint64_t kPage = 4096;

/// Addresses only: a layout never looks at memory.
Bytes at(std::uint64_t address, std::uint64_t bytes) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast,performance-no-int-to-ptr)
  return {reinterpret_cast<std::byte*>(address), bytes};
}

RamBlock block(std::string name, std::uint64_t address, std::uint64_t pages) {
  return {.name = std::move(name), .host = at(address, pages * kPage)};
}

/// The one line that a user would see.
std::string refusal(std::vector<RamBlock> blocks) {
  const auto layout = RamLayout::make(std::move(blocks));
  if (layout) return "accepted";
  EXPECT_TRUE(layout.error().is(errc::invalid_argument));
  return layout.error().message();
}

TEST(RamLayout, CountsPagesAndBytesOfAllBlocks) {
  const auto layout = RamLayout::make({block("ram", kPage, 3), block("rom", 16 * kPage, 2)});
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->pages(), 5U);
  EXPECT_EQ(layout->bytes(), 5 * kPage);
  EXPECT_EQ(layout->blocks().size(), 2U);
  EXPECT_EQ((*layout)[1].name, "rom");
}

TEST(RamLayout, FindsABlockByItsWholeName) {
  const auto layout = RamLayout::make({block("ram", kPage, 3), block("rom", 16 * kPage, 2)});
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->find("rom"), 1U);
  EXPECT_EQ(layout->find("ro"), std::nullopt);
  EXPECT_EQ(layout->find(""), std::nullopt);
}

TEST(RamLayout, GivesTheMemoryOfARunInTargetPages) {
  RamBlock big = block("big", 64 * kPage, 64);
  big.page_bytes = 16 * kPage;
  const auto layout = RamLayout::make({block("ram", kPage, 3), big});
  ASSERT_TRUE(layout);
  const Bytes memory = layout->memory({1, 1, 2});
  EXPECT_EQ(memory.data(), at((64 + 16) * kPage, 1).data());
  EXPECT_EQ(memory.size(), 32 * kPage);
  EXPECT_EQ(layout->bytes(PageRun{1, 1, 2}), 32 * kPage);
}

TEST(RamLayout, MayBeEmpty) {
  EXPECT_EQ(refusal({}), "accepted");
}

TEST(RamLayout, AcceptsBlocksThatTouch) {
  EXPECT_EQ(refusal({block("a", kPage, 1), block("b", 2 * kPage, 1)}), "accepted");
}

TEST(RamLayout, RefusesNamesThatDoNotFitTheWire) {
  EXPECT_NE(refusal({block("", kPage, 1)}).find("1 to 255 bytes"), std::string::npos);
  EXPECT_EQ(refusal({block(std::string(255, 'n'), kPage, 1)}), "accepted");
  EXPECT_NE(refusal({block(std::string(256, 'n'), kPage, 1)}).find("1 to 255 bytes"), std::string::npos);
}

TEST(RamLayout, RefusesTwoBlocksOfOneName) {
  EXPECT_NE(
      refusal({block("a", kPage, 1), block("b", 2 * kPage, 1), block("a", 3 * kPage, 1)}).find("named 'a'"),
      std::string::npos);
}

TEST(RamLayout, RefusesBlocksThatOverlap) {
  EXPECT_NE(refusal({block("a", 4 * kPage, 4), block("b", kPage, 4)}).find("'a' and 'b' overlap"),
            std::string::npos);
}

TEST(RamLayout, RefusesMemoryThatIsNotWholePages) {
  RamBlock odd = block("odd", kPage, 1);
  odd.host = at(kPage, kPage + 1);
  EXPECT_NE(refusal({odd}).find("no multiple of 4096"), std::string::npos);
  odd.host = {};
  EXPECT_NE(refusal({odd}).find("no multiple"), std::string::npos);
  odd.host = at(kPage + 8, kPage);
  EXPECT_NE(refusal({odd}).find("does not begin on a page"), std::string::npos);
}

TEST(RamLayout, RefusesHugePagesThatDoNotFitTheBlock) {
  RamBlock huge = block("huge", 512 * kPage, 512);
  huge.backing.page_bytes = 512 * kPage;
  EXPECT_EQ(refusal({huge}), "accepted");
  huge.host = at(512 * kPage, 511 * kPage);
  EXPECT_NE(refusal({huge}).find("no multiple of 2097152"), std::string::npos);
  huge.host = at(kPage, 512 * kPage);
  EXPECT_NE(refusal({huge}).find("does not begin on a page of 2097152"), std::string::npos);
}

TEST(RamLayout, RefusesPageSizesThatAreNoPowerOfTwo) {
  RamBlock odd = block("odd", 3 * kPage, 3);
  odd.page_bytes = 3 * kPage;
  EXPECT_NE(refusal({odd}).find("12288 is no power of two"), std::string::npos);
  odd.page_bytes = 0;
  EXPECT_NE(refusal({odd}).find("0 is no power of two"), std::string::npos);
  odd.page_bytes = kPage;
  odd.backing.page_bytes = 5000;
  EXPECT_NE(refusal({odd}).find("5000 is no power of two"), std::string::npos);
}

TEST(RamLayout, RefusesSharedMemoryWithoutItsDescriptor) {
  RamBlock shared = block("shared", kPage, 1);
  shared.backing.kind = Backing::Kind::shared_fd;
  EXPECT_NE(refusal({shared}).find("needs its file descriptor"), std::string::npos);
  shared.backing.fd = 0;
  EXPECT_EQ(refusal({shared}), "accepted");
}

}  // namespace
}  // namespace ramferry::migration
