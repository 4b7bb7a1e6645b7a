// SPDX-License-Identifier: MIT
#include "../../tcp/src/frame_packer.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace ramferry::tcp {
namespace {

constexpr std::size_t kPage = 4096;

class FramePackerTest : public ::testing::Test {
 protected:
  Placement page(std::size_t index, std::size_t count = 1) const {
    return {.slot = SlotId{1},
            .offset = index * kPage,
            .bytes = ConstBytes(memory_).subspan(index * kPage, count * kPage)};
  }
  static std::vector<Extent> extents(OutFrame& frame) {
    std::vector<Extent> result;
    EXPECT_TRUE(decode_header(HeaderBytes(frame.head.data(), kHeaderBytes)).has_value());
    EXPECT_TRUE(decode_extents(HeaderBytes(frame.head.data(), kHeaderBytes),
                               ConstBytes(frame.head).subspan(kHeaderBytes), result)
                    .has_value());
    return result;
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(3 * FramePacker::kFrameBytes);
  FramePacker packer_{false};
};

TEST_F(FramePackerTest, AdjacentPagesBecomeOneExtentAndOnePiece) {
  for (std::size_t i = 3; i < 10; ++i) EXPECT_EQ(packer_.add(page(i)), kPage);
  OutFrame& frame = packer_.seal();
  EXPECT_EQ(frame.body.size(), 1U);
  EXPECT_EQ(frame.body[0].iov_base, memory_.data() + 3 * kPage) << "gathered from where it lies";
  ASSERT_EQ(extents(frame).size(), 1U);
  EXPECT_EQ(extents(frame)[0].length, 7 * kPage);
  EXPECT_EQ(frame.head.size(), kHeaderBytes) << "bulk needs no table";
}

TEST_F(FramePackerTest, PagesApartStayApart) {
  packer_.add(page(0));
  packer_.add(page(2));
  Placement elsewhere = page(3);
  elsewhere.slot = SlotId{2};
  packer_.add(elsewhere);
  EXPECT_EQ(extents(packer_.seal()).size(), 3U);
}

TEST_F(FramePackerTest, OneStretchOverThereMayComeFromTwoPlacesHere) {
  packer_.add(page(0));
  Placement next = page(9);
  next.offset = kPage;
  packer_.add(next);
  OutFrame& frame = packer_.seal();
  EXPECT_EQ(extents(frame).size(), 1U);
  EXPECT_EQ(frame.body.size(), 2U);
}

TEST_F(FramePackerTest, BulkIsCut) {
  const Placement bulk = page(0, memory_.size() / kPage);
  EXPECT_EQ(packer_.add(bulk), FramePacker::kFrameBytes);
  EXPECT_TRUE(packer_.full());
  EXPECT_EQ(packer_.add(bulk), 0U);
  packer_.seal();
  packer_.clear();
  EXPECT_TRUE(packer_.empty());
  EXPECT_EQ(packer_.add(bulk), FramePacker::kFrameBytes);
}

TEST_F(FramePackerTest, AFrameHasAtMostItsEntries) {
  for (std::size_t i = 0; i < kMaxEntries; ++i) {
    ASSERT_FALSE(packer_.full());
    Placement byte{.slot = SlotId{1}, .offset = 2 * i, .bytes = ConstBytes(memory_).subspan(2 * i, 1)};
    packer_.add(byte);
  }
  EXPECT_TRUE(packer_.full());
  EXPECT_EQ(extents(packer_.seal()).size(), kMaxEntries);
}

TEST_F(FramePackerTest, EncodedBytesAreKeptOnlyForAQueue) {
  for (const bool keep : {false, true}) {
    FramePacker packer(keep);
    std::vector<std::byte> bytes(100, std::byte{1});
    packer.add({.slot = SlotId{1}, .offset = 0, .bytes = bytes, .length = kPage, .encoding = 5});
    packer.add(page(1));
    OutFrame& frame = packer.seal();
    ASSERT_EQ(extents(frame).size(), 2U) << "encoded extents never merge";
    EXPECT_EQ(extents(frame)[0].bytes, 100U);
    EXPECT_EQ(extents(frame)[0].length, kPage);
    EXPECT_EQ(frame.body[0].iov_base == bytes.data(), !keep);
    const OutFrame moved = std::move(frame);
    EXPECT_EQ(*static_cast<const std::byte*>(moved.body[0].iov_base), std::byte{1});
  }
}

}  // namespace
}  // namespace ramferry::tcp
