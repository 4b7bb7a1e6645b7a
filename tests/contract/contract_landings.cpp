// SPDX-License-Identifier: MIT
// The promises about what lies behind a slot: ranges, encodings, zeros.
#include "contract/channel_contract.hpp"

#include <array>
#include <cstring>

namespace ramferry::test {
namespace {

Result<> place_one(Channel& channel, std::uint64_t offset, ConstBytes bytes, SlotId slot = kSlot) {
  const std::array placements = {Placement{.slot = slot, .offset = offset, .bytes = bytes}};
  return channel.place(placements);
}

Result<> zero_one(Channel& channel, std::uint64_t offset, std::uint64_t length, SlotId slot = kSlot) {
  const std::array runs = {ZeroRun{.slot = slot, .offset = offset, .length = length}};
  return channel.zero(runs);
}

/// The first failure of `call`, a fence and settle().
template <class Call>
Result<> through_settle(Channel& channel, Call call, Deadline deadline) {
  RAMFERRY_TRY(call());
  return settle_all(channel, deadline);
}

::testing::AssertionResult is_refusal(const Result<>& outcome) {
  if (failed_with(outcome, errc::invalid_argument) || failed_with(outcome, errc::peer_failed))
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "should be refused: " << why(outcome);
}

TEST_P(ChannelContract, ASlotIsExposedOnce) {
  const Bytes landing = expose_memory(destination(), kSlot, kPage);
  MemoryLanding another(landing, MemoryLanding::Content::unknown);
  RAMFERRY_EXPECT_FAILS(errc::in_use, destination().expose(kSlot, another));
  const Bytes local = lent_memory(source(), kPage);
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
  RAMFERRY_EXPECT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(has_pattern(landing, 1));
}

TEST_P(ChannelContract, NothingLandsOutsideASlot) {
  struct Range {
    std::uint64_t offset;
    std::size_t length;
  };
  const std::vector<Range> ranges = {{kPage, 1},
                                     {0, kPage + 1},
                                     {kPage - 1, 2},
                                     {kPage, kPage},
                                     {1ULL << 40, 8},
                                     {UINT64_MAX, 1},
                                     {UINT64_MAX - kPage + 1, 2 * kPage},
                                     {0ULL - kPage, kPage}};
  for (const Range& range : ranges) {
    for (const bool zeroing : {false, true}) {
      connect();
      // The slot is a page between two others that must stay as they are.
      const Bytes around = memory(3 * kPage);
      std::fill(around.begin(), around.end(), std::byte{0xaa});
      expose(destination(), kSlot, around.subspan(kPage, kPage), MemoryLanding::Content::unknown);
      const Bytes local = memory(2 * kPage);
      lend(source(), local.first(kPage), kSlot, 0);
      const auto call = [&] {
        return zeroing ? zero_one(source(), range.offset, range.length)
                       : place_one(source(), range.offset, local.first(range.length));
      };
      EXPECT_TRUE(is_refusal(through_settle(source(), call, soon()))) << range.offset << "+" << range.length;
      destroy_source();
      EXPECT_TRUE(is_all(around, std::byte{0xaa})) << range.offset << "+" << range.length;
    }
  }
}

TEST_P(ChannelContract, NothingLandsInASlotThatIsNotExposed) {
  for (const bool zeroing : {false, true}) {
    connect();
    const Bytes landing = expose_memory(destination(), kSlot, kPage);
    const Bytes own =
        expose_memory(source(), SlotId{9}, kPage);  // the other end's slots are no slots of this one
    const Bytes local = lent_memory(source(), kPage);
    const auto call = [&] {
      return zeroing ? zero_one(source(), 0, kPage, SlotId{9}) : place_one(source(), 0, local, SlotId{9});
    };
    EXPECT_TRUE(is_refusal(through_settle(source(), call, soon())));
    EXPECT_FALSE(source().send(as_bytes("x")).has_value()) << "after a failure nothing can be sent";
    destroy_source();
    EXPECT_TRUE(is_all(landing, std::byte{0xaa}));
    EXPECT_TRUE(is_all(own, std::byte{0xaa}));
  }
}

TEST_P(ChannelContract, WhatLandsWithoutAWindowIsStored) {
  StoringLanding& landing = expose_storing(destination(), kSlot, 64 * kPage);
  const Bytes local = lent_memory(source(), 64 * kPage);
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local.first(10 * kPage)));
  RAMFERRY_ASSERT_OK(place_one(source(), 20 * kPage + 5, local.subspan(20 * kPage + 5, 12345)));
  RAMFERRY_ASSERT_OK(zero_one(source(), 40 * kPage, kPage));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  std::vector<std::byte> expected(64 * kPage, std::byte{0xaa});
  std::memcpy(expected.data(), local.data(), 10 * kPage);
  std::memcpy(expected.data() + 20 * kPage + 5, local.data() + 20 * kPage + 5, 12345);
  std::memset(expected.data() + 40 * kPage, 0, kPage);
  EXPECT_EQ(landing.content(), expected);
  EXPECT_EQ(destination().stats().placed_bytes_received, 10 * kPage + 12345);
}

TEST_P(ChannelContract, EncodedPlacementsReachTheLandingWhole) {
  StoringLanding& landing = expose_storing(destination(), kSlot, 1U << 30, StoringLanding::Keep::encoded);
  const Bytes buffer = lent_memory(source(), kMostEncodedBytes);
  std::vector<std::vector<std::byte>> sent;
  std::uint64_t decoded = 0;
  for (std::size_t i = 0; i < 100; ++i) {
    const Bytes bytes = buffer.first(i == 99 ? kMostEncodedBytes : i * 71 + 1);
    fill_pattern(bytes, i);
    const std::array placements = {Placement{.slot = kSlot,
                                             .offset = i * kPage,
                                             .bytes = bytes,
                                             .length = kPage,
                                             .encoding = static_cast<Encoding>(i + 1)}};
    RAMFERRY_ASSERT_OK(source().place(placements));
    sent.emplace_back(bytes.begin(), bytes.end());
    std::fill(bytes.begin(), bytes.end(), std::byte{0xee});  // encoded bytes are borrowed for the call only
    decoded += kPage;
  }
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  std::vector<StoringLanding::Stored> stored = landing.encoded();
  ASSERT_EQ(stored.size(), sent.size());
  std::sort(stored.begin(), stored.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  for (std::size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(stored[i].offset, i * kPage);
    EXPECT_EQ(stored[i].length, kPage);
    EXPECT_EQ(stored[i].encoding, i + 1);
    EXPECT_TRUE(stored[i].bytes == sent[i]) << i;
  }
  EXPECT_EQ(source().stats().placed_bytes_sent, decoded);
  EXPECT_EQ(destination().stats().placed_bytes_received, decoded);
}

TEST_P(ChannelContract, TooManyEncodedBytesAreRefused) {
  expose_storing(destination(), kSlot, 1U << 20);
  const Bytes bytes = memory(kMostEncodedBytes + 1);
  const std::array placements = {Placement{.slot = kSlot, .bytes = bytes, .length = kPage, .encoding = 1}};
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, source().place(placements));
}

TEST_P(ChannelContract, PlainMemoryTakesNoEncodedPlacement) {
  const Bytes landing = expose_memory(destination(), kSlot, kPage);
  const Bytes bytes = memory(100);
  const std::array placements = {Placement{.slot = kSlot, .bytes = bytes, .length = kPage, .encoding = 1}};
  auto receiving = start([&] {
    std::array<std::byte, 1> into{};
    return destination().receive(into, Deadline::never());
  });
  const auto outcome = through_settle(
      source(), [&] { return source().place(placements); }, soon());
  RAMFERRY_EXPECT_FAILS(errc::peer_failed, outcome);
  RAMFERRY_EXPECT_FAILS(errc::unsupported, receiving.get());
  EXPECT_TRUE(is_all(landing, std::byte{0xaa}));
}

TEST_P(ChannelContract, AFailingLandingFailsTheChannel) {
  for (const bool zeroing : {false, true}) {
    connect();
    StoringLanding& landing = expose_storing(destination(), kSlot, kPage);
    landing.fail_with(fail(errc::no_space, "writing the checkpoint").value());
    const Bytes local = lent_memory(source(), kPage);
    auto receiving = start([&] {
      std::array<std::byte, 1> into{};
      return destination().receive(into, Deadline::never());
    });
    const auto outcome = through_settle(
        source(), [&] { return zeroing ? zero_one(source(), 0, kPage) : place_one(source(), 0, local); },
        soon());
    RAMFERRY_EXPECT_FAILS(errc::peer_failed, outcome);
    RAMFERRY_EXPECT_FAILS(errc::no_space, receiving.get());
  }
}

TEST_P(ChannelContract, ZeroRunsReadAsZerosAndSpareTheirNeighbours) {
  const Bytes landing = expose_memory(destination(), kSlot, 64 * kPage);
  const std::array runs = {ZeroRun{kSlot, 0, 1}, ZeroRun{kSlot, kPage - 1, kPage + 2},
                           ZeroRun{kSlot, 10 * kPage, 20 * kPage}, ZeroRun{kSlot, 64 * kPage - 7, 7}};
  RAMFERRY_ASSERT_OK(source().zero(runs));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  std::vector<std::byte> expected(64 * kPage, std::byte{0xaa});
  for (const ZeroRun& run : runs) std::memset(expected.data() + run.offset, 0, run.length);
  EXPECT_EQ(std::memcmp(landing.data(), expected.data(), expected.size()), 0);
}

TEST_P(ChannelContract, ThousandsOfZeroRunsGoInOneCall) {
  const Bytes landing = expose_memory(destination(), kSlot, 8192 * kPage);
  std::vector<ZeroRun> runs;
  for (std::uint64_t page = 1; page < 8192; page += 2) runs.push_back({kSlot, page * kPage, kPage});
  RAMFERRY_ASSERT_OK(source().zero(runs));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  for (std::size_t page = 0; page < 8192; ++page)
    ASSERT_TRUE(is_all(landing.subspan(page * kPage, kPage), page % 2 == 0 ? std::byte{0xaa} : std::byte{0}))
        << page;
}

TEST_P(ChannelContract, ZeroingBlankMemoryTouchesNoPage) {
  const Bytes blank = memory(4096 * kPage);
  expose(destination(), kSlot, blank, MemoryLanding::Content::blank);
  RAMFERRY_ASSERT_OK(zero_one(source(), 0, blank.size()));
  RAMFERRY_ASSERT_OK(zero_one(source(), 5, 0));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_EQ(resident_pages(blank), 0U);
}

TEST_P(ChannelContract, ZerosFollowPlacementsAndPlacementsZeros) {
  const Bytes landing = memory(64 * kPage);
  expose(destination(), kSlot, landing, MemoryLanding::Content::blank);
  const Bytes local = lent_memory(source(), landing.size());
  for (std::uint64_t round = 0; round < 50; ++round) {
    fill_pattern(local, round);
    RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
    RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
    ASSERT_TRUE(has_pattern(landing, round)) << round;
    RAMFERRY_ASSERT_OK(zero_one(source(), 0, landing.size()));
    RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
    ASSERT_TRUE(is_all(landing, std::byte{0})) << round;
  }
}

TEST_P(ChannelContract, OneFenceMayCoverPlacementsAndZerosSideBySide) {
  const Bytes landing = memory(512 * kPage);
  expose(destination(), kSlot, landing, MemoryLanding::Content::blank);
  const Bytes local = lent_memory(source(), landing.size());
  for (std::uint64_t round = 0; round < 20; ++round) {
    fill_pattern(local, round);
    for (std::size_t page = 0; page < 512; ++page) {
      if ((page + round) % 2 == 0)
        RAMFERRY_ASSERT_OK(place_one(source(), page * kPage, local.subspan(page * kPage, kPage)));
      else
        RAMFERRY_ASSERT_OK(zero_one(source(), page * kPage, kPage));
    }
    RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
    for (std::size_t page = 0; page < 512; ++page) {
      const ConstBytes there = landing.subspan(page * kPage, kPage);
      const bool right = (page + round) % 2 == 0
                             ? std::memcmp(there.data(), local.data() + page * kPage, kPage) == 0
                             : is_all(there, std::byte{0});
      ASSERT_TRUE(right) << "page " << page << ", round " << round;
    }
  }
}

}  // namespace
}  // namespace ramferry::test
