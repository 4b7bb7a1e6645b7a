// SPDX-License-Identifier: MIT
// The promises about placements: they land exactly there, and nowhere else.
#include "contract/channel_contract.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace ramferry::test {
namespace {

struct Extent {
  std::size_t offset = 0, length = 0;
};

Result<> place_one(Channel& channel, SlotId slot, std::uint64_t offset, ConstBytes bytes) {
  const std::array placements = {Placement{.slot = slot, .offset = offset, .bytes = bytes}};
  return channel.place(placements);
}

/// Places the extents of `local` at the same offsets of `slot`, all in one batch.
Result<> place_extents(Channel& channel, SlotId slot, ConstBytes local, const std::vector<Extent>& extents) {
  std::vector<Placement> batch;
  batch.reserve(extents.size());
  for (const Extent& each : extents)
    batch.push_back({.slot = slot, .offset = each.offset, .bytes = local.subspan(each.offset, each.length)});
  return channel.place(batch);
}

/// Whether `landing` has the bytes of `local` in the extents, and `elsewhere` in all other places.
::testing::AssertionResult landed(ConstBytes landing, ConstBytes local, const std::vector<Extent>& extents,
                                  std::byte elsewhere = std::byte{0xaa}) {
  std::vector<std::byte> expected(landing.size(), elsewhere);
  for (const Extent& each : extents)
    std::memcpy(expected.data() + each.offset, local.data() + each.offset, each.length);
  const auto wrong = std::mismatch(expected.begin(), expected.end(), landing.begin()).first;
  if (wrong == expected.end()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "wrong byte at " << wrong - expected.begin() << " of " << landing.size();
}

TEST_P(ChannelContract, PlacementLandsExactlyThere) {
  const Bytes landing = expose_memory(destination(), kSlot, 16 * kPage);
  const Bytes local = lent_memory(source(), 16 * kPage);
  fill_pattern(local, 1);
  const std::vector<Extent> extents = {{3 * kPage, kPage}};
  RAMFERRY_ASSERT_OK(place_extents(source(), kSlot, local, extents));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(landed(landing, local, extents));
}

TEST_P(ChannelContract, PlacementReachesTheFirstAndTheLastByte) {
  const Bytes landing = expose_memory(destination(), kSlot, 5 * kPage - 3);
  const Bytes local = lent_memory(source(), 5 * kPage - 3);
  fill_pattern(local, 1);
  const std::vector<Extent> extents = {{0, 1}, {local.size() - 1, 1}};
  RAMFERRY_ASSERT_OK(place_extents(source(), kSlot, local, extents));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(landed(landing, local, extents));
}

TEST_P(ChannelContract, OnePlacementMayBeVeryLarge) {
  const Bytes landing = expose_memory(destination(), kSlot, traits().bulk_bytes);
  const Bytes local = lent_memory(source(), traits().bulk_bytes);
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(source(), kSlot, 0, local));
  RAMFERRY_ASSERT_OK(settle_all(source(), Deadline::never()));
  EXPECT_TRUE(has_pattern(landing, 1));
}

TEST_P(ChannelContract, ThousandsOfScatteredPagesGoInOneBatch) {
  const Bytes landing = expose_memory(destination(), kSlot, 8192 * kPage);
  const Bytes local = lent_memory(source(), 8192 * kPage);
  fill_pattern(local, 1);
  std::vector<Extent> extents;
  for (std::size_t page = 0; page < 8192; page += 2) extents.push_back({page * kPage, kPage});
  std::shuffle(extents.begin(), extents.end(), std::mt19937_64(2));
  RAMFERRY_ASSERT_OK(place_extents(source(), kSlot, local, extents));
  RAMFERRY_ASSERT_OK(settle_all(source(), Deadline::never()));
  EXPECT_TRUE(landed(landing, local, extents));
}

TEST_P(ChannelContract, AdjacentPlacementsGoInOneBatch) {
  const Bytes landing = expose_memory(destination(), kSlot, 2048 * kPage);
  const Bytes local = lent_memory(source(), 2048 * kPage);
  fill_pattern(local, 1);
  std::vector<Extent> extents;
  for (std::size_t page = 0; page < 2048; ++page) extents.push_back({page * kPage, kPage});
  RAMFERRY_ASSERT_OK(place_extents(source(), kSlot, local, extents));
  RAMFERRY_ASSERT_OK(settle_all(source(), Deadline::never()));
  EXPECT_TRUE(landed(landing, local, extents));
}

TEST_P(ChannelContract, PlacementsMayHaveAnySizeAndAlignment) {
  const Bytes landing = expose_memory(destination(), kSlot, 4U << 20);
  const Bytes local = lent_memory(source(), 4U << 20);
  fill_pattern(local, 1);
  std::mt19937_64 random(3);
  std::vector<Extent> extents;
  for (std::size_t at = 0;;) {
    at += random() % 3 == 0 ? 0 : random() % 700;  // some touch the one before
    const std::size_t length = 1 + random() % (random() % 10 == 0 ? 70000 : 900);
    if (at + length > local.size()) break;
    extents.push_back({at, length});
    at += length;
  }
  std::shuffle(extents.begin(), extents.end(), random);
  RAMFERRY_ASSERT_OK(place_extents(source(), kSlot, local, extents));
  RAMFERRY_ASSERT_OK(settle_all(source(), Deadline::never()));
  EXPECT_TRUE(landed(landing, local, extents));
}

TEST_P(ChannelContract, LocalAndRemoteOffsetsNeedNotMatch) {
  const Bytes landing = expose_memory(destination(), kSlot, 64 * kPage);
  const Bytes local = memory(64 * kPage);
  lend(source(), local.subspan(77, 30000), kSlot, 1001);
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(source(), kSlot, 1001, local.subspan(77, 30000)));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_EQ(std::memcmp(landing.data() + 1001, local.data() + 77, 30000), 0);
  EXPECT_TRUE(is_all(landing.first(1001), std::byte{0xaa}));
  EXPECT_TRUE(is_all(landing.subspan(31001), std::byte{0xaa}));
}

TEST_P(ChannelContract, SlotsAreApart) {
  const Bytes local = memory(kPage);
  std::vector<Bytes> landings;
  constexpr std::uint32_t kSlots = 40;
  std::vector<Placement> batch;
  for (std::uint32_t i = 0; i < kSlots; ++i) {
    const SlotId slot{i * 0x01234567U};  // numbers are the exposing end's choice, 0 and large ones among them
    landings.push_back(expose_memory(destination(), slot, kPage));
    batch.push_back({.slot = slot, .offset = i, .bytes = local.subspan(i * 100, i + 1)});
  }
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(source().lend(batch));
  for (const Placement& each : batch) RAMFERRY_ASSERT_OK(source().prepare(each.bytes));
  RAMFERRY_ASSERT_OK(source().place(batch));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  for (std::uint32_t i = 0; i < kSlots; ++i) {
    EXPECT_EQ(std::memcmp(landings[i].data() + i, local.data() + i * 100, i + 1), 0) << i;
    EXPECT_TRUE(is_all(landings[i].first(i), std::byte{0xaa})) << i;
    EXPECT_TRUE(is_all(landings[i].subspan(2 * i + 1), std::byte{0xaa})) << i;
  }
}

TEST_P(ChannelContract, BothEndsPlaceAtOnce) {
  struct Side {
    Channel* from;
    Bytes local, landing;
  };
  const auto side_of = [&](Channel& from, Channel& to) {
    const Bytes landing = expose_memory(to, kSlot, 4U << 20);
    return Side{&from, lent_memory(from, landing.size()), landing};
  };
  const std::array<Side, 2> sides = {side_of(source(), destination()), side_of(destination(), source())};
  const auto run = [&](const Side& side, std::uint64_t seed) -> Result<> {
    for (std::uint64_t round = 0; round < 8; ++round) {
      fill_pattern(side.local, seed + round);
      RAMFERRY_TRY(place_one(*side.from, kSlot, 0, side.local));
      RAMFERRY_TRY(settle_all(*side.from, Deadline::never()));
      if (!has_pattern(side.landing, seed + round)) return fail(errc::io, "the landing has other bytes");
    }
    return {};
  };
  auto there = start([&] { return run(sides[0], 100); });
  auto back = start([&] { return run(sides[1], 200); });
  RAMFERRY_EXPECT_OK(there.get());
  RAMFERRY_EXPECT_OK(back.get());
}

TEST_P(ChannelContract, EmptyBatchesAndPlacementsDoNothing) {
  const Bytes landing = expose_memory(destination(), kSlot, kPage);
  const Bytes local = lent_memory(source(), kPage);
  const std::array nothing = {Placement{.slot = kSlot, .offset = 5, .bytes = local.first(0)}};
  const std::array no_zeros = {ZeroRun{.slot = kSlot, .offset = kPage, .length = 0}};
  RAMFERRY_EXPECT_OK(source().place({}));
  RAMFERRY_EXPECT_OK(source().zero({}));
  RAMFERRY_EXPECT_OK(source().place(nothing));
  RAMFERRY_EXPECT_OK(source().zero(no_zeros));
  RAMFERRY_EXPECT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(is_all(landing, std::byte{0xaa}));
}

TEST_P(ChannelContract, MemoryThatWasNotLentMayBePlaced) {
  const Bytes local = memory(300 * kPage);
  const Bytes landing = expose_memory(destination(), kSlot, local.size());
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(place_one(source(), kSlot, 0, local));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(has_pattern(landing, 1));
}

TEST_P(ChannelContract, LentMemoryIsNeverCopied) {
  const Bytes landing = expose_memory(destination(), kSlot, 1024 * kPage);
  const Bytes local = lent_memory(source(), 1024 * kPage);
  fill_pattern(local, 1);
  std::vector<Extent> extents = {{0, 500 * kPage}};
  for (std::size_t page = 501; page < 1024; page += 2) extents.push_back({page * kPage + 1, 1777});
  RAMFERRY_ASSERT_OK(place_extents(source(), kSlot, local, extents));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(landed(landing, local, extents));
  EXPECT_EQ(source().stats().copied_bytes, 0U);
  EXPECT_EQ(destination().stats().copied_bytes, 0U);
}

TEST_P(ChannelContract, MemoryMayBeLentInPartsAndPreparedInParts) {
  const Bytes landing = expose_memory(destination(), kSlot, 129 * kPage);
  const Bytes first = memory(64 * kPage), second = memory(64 * kPage);
  fill_pattern(first, 1);
  fill_pattern(second, 2);
  const std::array plan = {Placement{.slot = kSlot, .offset = 0, .bytes = first},
                           Placement{.slot = kSlot, .offset = 64 * kPage, .bytes = second}};
  RAMFERRY_ASSERT_OK(source().lend(plan));
  RAMFERRY_ASSERT_OK(source().prepare(second.subspan(32 * kPage)));  // out of order, and only a part
  RAMFERRY_ASSERT_OK(place_one(source(), kSlot, 96 * kPage, second.subspan(32 * kPage)));
  RAMFERRY_ASSERT_OK(source().prepare(first.first(16 * kPage)));
  RAMFERRY_ASSERT_OK(source().prepare(first.subspan(16 * kPage, 16 * kPage)));
  RAMFERRY_ASSERT_OK(place_one(source(), kSlot, 0, first.first(32 * kPage)));
  const Bytes third = lent_memory(source(), kPage, kSlot, 128 * kPage);  // lent while others are under way
  fill_pattern(third, 3);
  RAMFERRY_ASSERT_OK(place_one(source(), kSlot, 128 * kPage, third));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_EQ(std::memcmp(landing.data(), first.data(), 32 * kPage), 0);
  EXPECT_TRUE(is_all(landing.subspan(32 * kPage, 64 * kPage), std::byte{0xaa}));
  EXPECT_EQ(std::memcmp(landing.data() + 96 * kPage, second.data() + 32 * kPage, 32 * kPage), 0);
  EXPECT_TRUE(has_pattern(landing.subspan(128 * kPage), 3));
  EXPECT_EQ(source().stats().copied_bytes, 0U);
}

TEST_P(ChannelContract, PlacementsOfASettledFenceMayBeRepeated) {
  const Bytes landing = expose_memory(destination(), kSlot, 16 * kPage);
  const Bytes local = lent_memory(source(), 16 * kPage);
  for (std::uint64_t round = 0; round < 200; ++round) {
    fill_pattern(local, round);
    RAMFERRY_ASSERT_OK(place_one(source(), kSlot, 0, local));
    RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
    ASSERT_TRUE(has_pattern(landing, round)) << round;
  }
}

TEST_P(ChannelContract, PlacedBytesAreCountedExactly) {
  expose_memory(destination(), kSlot, 1U << 20);
  const Bytes local = lent_memory(source(), 1U << 20);
  const std::vector<Extent> extents = {{0, 4096}, {4096, 1}, {10000, 77777}, {500001, 3}};
  RAMFERRY_ASSERT_OK(place_extents(source(), kSlot, local, extents));
  const std::array zeros = {ZeroRun{kSlot, 200000, 12345}, ZeroRun{kSlot, 300000, 1}};
  RAMFERRY_ASSERT_OK(source().zero(zeros));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  const std::uint64_t placed = 4096 + 1 + 77777 + 3, zeroed = 12345 + 1;
  EXPECT_EQ(source().stats().placed_bytes_sent, placed);
  EXPECT_EQ(source().stats().zero_bytes_sent, zeroed);
  EXPECT_EQ(destination().stats().placed_bytes_received, placed);
  EXPECT_EQ(destination().stats().zero_bytes_received, zeroed);
  EXPECT_EQ(destination().stats().placed_bytes_sent, 0U);
  EXPECT_EQ(source().stats().placed_bytes_received, 0U);
  EXPECT_EQ(source().stats().fences, 1U);
  EXPECT_EQ(source().stats().message_bytes_sent, 0U);
  EXPECT_EQ(destination().stats().message_bytes_received, 0U);
  EXPECT_GE(source().stats().wire_bytes_sent, placed);
  EXPECT_LT(source().stats().wire_bytes_sent, placed + zeroed) << "zero runs should not cross as bytes";
}

}  // namespace
}  // namespace ramferry::test
