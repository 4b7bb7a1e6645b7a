// SPDX-License-Identifier: MIT
// The promises of fence and settle.
#include "contract/channel_contract.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace ramferry::test {
namespace {

using std::chrono::milliseconds;

Result<> place_one(Channel& channel, std::uint64_t offset, ConstBytes bytes) {
  const std::array placements = {Placement{.slot = kSlot, .offset = offset, .bytes = bytes}};
  return channel.place(placements);
}

Result<> send_byte(Channel& channel, std::uint64_t value) {
  const std::array bytes = {static_cast<std::byte>(value)};
  return channel.send(bytes);
}

Result<std::uint8_t> receive_byte(Channel& channel) {
  std::array<std::byte, 1> byte{};
  RAMFERRY_TRY(receive_exactly(channel, byte, Deadline::never()));
  return std::to_integer<std::uint8_t>(byte[0]);
}

TEST_P(ChannelContract, EpochsCountFromOne) {
  EXPECT_EQ(source().settled(), 0U);
  for (Epoch expected = 1; expected <= 100; ++expected) EXPECT_EQ(source().fence().value_or(0), expected);
  RAMFERRY_EXPECT_OK(source().settle(100, soon()));
  EXPECT_EQ(source().settled(), 100U);
  EXPECT_EQ(destination().fence().value_or(0), 1U) << "each end counts its own";
  EXPECT_EQ(source().stats().fences, 100U);
}

TEST_P(ChannelContract, SettlingAnOldEpochAgainReturnsAtOnce) {
  RAMFERRY_ASSERT_OK(source().settle(0, Deadline::after(milliseconds(0))));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  RAMFERRY_EXPECT_OK(source().settle(1, Deadline::after(milliseconds(0))));
  RAMFERRY_EXPECT_OK(source().settle(2, Deadline::after(milliseconds(0))));
}

TEST_P(ChannelContract, SettleWaitsUntilAllIsInPlace) {
  StoringLanding& landing = expose_storing(destination(), kSlot, kPage);
  landing.shut();
  const Bytes local = lent_memory(source(), kPage);
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
  const auto epoch = source().fence();  // returns though nothing is in place
  RAMFERRY_ASSERT_OK(epoch);
  RAMFERRY_EXPECT_FAILS(errc::timed_out, source().settle(*epoch, Deadline::after(milliseconds(30))));
  RAMFERRY_EXPECT_FAILS(errc::timed_out, source().settle(*epoch, Deadline::after(milliseconds(0))));
  EXPECT_EQ(source().settled(), 0U);
  landing.open();
  RAMFERRY_EXPECT_OK(source().settle(*epoch, soon()));
  EXPECT_EQ(source().settled(), *epoch);
  RAMFERRY_EXPECT_OK(settle_all(source(), soon()));  // timed_out left the channel as it was
}

TEST_P(ChannelContract, SettlingTheNewestEpochSettlesAllBefore) {
  const Bytes landing = expose_memory(destination(), kSlot, 100 * kPage);
  const Bytes local = lent_memory(source(), 100 * kPage);
  fill_pattern(local, 1);
  for (std::size_t page = 0; page < 100; ++page) {
    RAMFERRY_ASSERT_OK(place_one(source(), page * kPage, local.subspan(page * kPage, kPage)));
    RAMFERRY_ASSERT_OK(source().fence());
  }
  RAMFERRY_ASSERT_OK(source().settle(100, soon()));
  EXPECT_TRUE(has_pattern(landing, 1));
}

TEST_P(ChannelContract, NobodyNeedsToReceiveForAFenceToSettle) {
  const Bytes landing = expose_memory(destination(), kSlot, kPage);
  const Bytes local = lent_memory(source(), kPage);
  fill_pattern(local, 1);
  RAMFERRY_ASSERT_OK(source().send(as_bytes("nobody receives this")));
  RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  EXPECT_TRUE(has_pattern(landing, 1));
}

/// Content of round `round`, cheap enough for thousands of rounds and different in every word.
void stamp(Bytes bytes, std::uint64_t round) {
  fill_pattern(bytes, round * 7919);
}
bool is_stamped(ConstBytes bytes, std::uint64_t round) {
  return has_pattern(bytes, round * 7919);
}

// The heart of the matter. The source runs up to kAhead rounds ahead and never waits for anything but a
// settled fence and the window; the destination looks at the memory in the moment in which it has the byte.
TEST_P(ChannelContract, AByteAfterAFenceFindsAllThatWasPlacedBefore) {
  constexpr std::uint64_t kAhead = 8, kPart = 3 * kPage;
  const std::uint64_t rounds = repetitions(traits().races, traits().races * 20);
  const Bytes landing = expose_memory(destination(), kSlot, kAhead * kPart);
  const Bytes local = lent_memory(source(), kAhead * kPart);

  auto placing = start([&]() -> Result<> {
    for (std::uint64_t round = 0; round < rounds; ++round) {
      if (round >= kAhead) {
        RAMFERRY_TRY(
            source().settle(round - kAhead + 1, Deadline::never()));  // before its memory is used again
        RAMFERRY_TRY(receive_byte(source()));                         // and before its landing is
      }
      const std::uint64_t at = round % kAhead * kPart;
      const Bytes part = local.subspan(at, kPart);
      stamp(part, round);
      // Several placements of odd sizes, zero run in the middle.
      const std::array placements = {
          Placement{.slot = kSlot, .offset = at, .bytes = part.first(kPage + 8)},
          Placement{.slot = kSlot, .offset = at + 2 * kPage, .bytes = part.last(kPage)}};
      RAMFERRY_TRY(source().place(placements));
      const std::array zeros = {ZeroRun{kSlot, at + kPage + 8, kPage - 8}};
      RAMFERRY_TRY(source().zero(zeros));
      RAMFERRY_TRY(source().fence());
      RAMFERRY_TRY(send_byte(source(), round));
    }
    return {};
  });
  std::vector<std::byte> expected(kPart);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const auto byte = receive_byte(destination());
    RAMFERRY_ASSERT_OK(byte);
    ASSERT_EQ(*byte, round % 256);
    stamp(expected, round);
    std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(kPage + 8), kPage - 8, std::byte{0});
    const Bytes part = landing.subspan(round % kAhead * kPart, kPart);
    ASSERT_TRUE(std::equal(part.begin(), part.end(), expected.begin())) << "round " << round;
    RAMFERRY_ASSERT_OK(send_byte(destination(), round));
  }
  RAMFERRY_EXPECT_OK(placing.get());
}

TEST_P(ChannelContract, PlaceAndTellIsPlaceFenceAndSend) {
  // More of the middling ones than anybody buffers, and one that nobody takes whole.
  std::vector<std::size_t> messages(100, 60'000);
  messages.insert(messages.begin(), {1, 100, 0, 5U << 20});
  std::vector<std::size_t> parts(messages.size(), 8);
  parts[1] = 300 * kPage;
  parts[2] = 1;
  parts[3] = 17 * kPage;
  std::vector<std::size_t> at(parts.size());
  std::exclusive_scan(parts.begin(), parts.end(), at.begin(), std::size_t{0});
  const Bytes landing = expose_memory(destination(), kSlot, 512 * kPage);
  const Bytes local = lent_memory(source(), landing.size());
  fill_pattern(local, 3);
  std::vector<std::byte> told(5U << 20);
  fill_pattern(told, 4);

  auto telling = start([&]() -> Result<> {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const ConstBytes bytes = local.subspan(at[i], parts[i]);
      const ConstBytes message = ConstBytes(told).first(messages[i]);
      RAMFERRY_TRY_ASSIGN(const Epoch epoch, source().place_and_tell({kSlot, at[i], bytes}, message));
      if (epoch != i + 1) return fail(errc::io, "epoch " + std::to_string(epoch));
    }
    return source().settle(parts.size(), Deadline::never());
  });
  std::vector<std::byte> heard(told.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Bytes message = Bytes(heard).first(messages[i]);
    RAMFERRY_ASSERT_OK(receive_exactly(destination(), message, soon()));
    EXPECT_TRUE(std::equal(message.begin(), message.end(), told.begin())) << i;
    if (message.empty()) continue;
    const ConstBytes placed = landing.subspan(at[i], parts[i]);
    EXPECT_TRUE(std::equal(placed.begin(), placed.end(), local.begin() + static_cast<std::ptrdiff_t>(at[i])))
        << i;
  }
  RAMFERRY_EXPECT_OK(telling.get());
  const StreamStats stats = source().stats();
  EXPECT_EQ(stats.fences, parts.size());
  EXPECT_EQ(stats.placed_bytes_sent, std::accumulate(parts.begin(), parts.end(), std::size_t{0}));
  EXPECT_EQ(stats.message_bytes_sent, std::accumulate(messages.begin(), messages.end(), std::size_t{0}));

  RAMFERRY_ASSERT_OK(source().finish(soon()));
  RAMFERRY_EXPECT_FAILS(errc::wrong_state,
                        source().place_and_tell({kSlot, 0, local.first(8)}, ConstBytes(told).first(1)));
}

TEST_P(ChannelContract, TheLastOfManyPlacementsOfAPageWins) {
  const Bytes landing = expose_memory(destination(), kSlot, kPage);
  const Bytes local = lent_memory(source(), kPage);
  const std::uint64_t rounds = repetitions(traits().races, traits().races * 10);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    stamp(local, round);
    RAMFERRY_ASSERT_OK(place_one(source(), 0, local));
    RAMFERRY_ASSERT_OK(settle_all(source(), soon()));
  }
  EXPECT_TRUE(is_stamped(landing, rounds - 1));
}

// Messages, placements and fences in both directions, all at once: four threads.
TEST_P(ChannelContract, FullDuplexWithPlacementsBothWays) {
  constexpr std::uint64_t kPages = 64;
  const std::uint64_t rounds = std::max<std::uint64_t>(traits().races / 4, 2 * kPages);
  struct Side {
    Channel *from, *to;
    Bytes local, landing;
  };
  const auto side_of = [&](Channel& from, Channel& to) {
    const Bytes landing = expose_memory(to, kSlot, kPages * kPage);
    return Side{&from, &to, lent_memory(from, landing.size()), landing};
  };
  const std::array<Side, 2> sides = {side_of(source(), destination()), side_of(destination(), source())};
  const auto sending = [&](const Side& side) {
    return start([&side, rounds]() -> Result<> {
      for (std::uint64_t round = 0; round < rounds; ++round) {
        // A page per round; it is used again only after `kPages` rounds, and after what was settled.
        if (round >= kPages) RAMFERRY_TRY(side.from->settle(round - kPages + 1, Deadline::never()));
        const std::uint64_t at = round % kPages * kPage;
        stamp(side.local.subspan(at, kPage), round);
        RAMFERRY_TRY(place_one(*side.from, at, side.local.subspan(at, kPage)));
        RAMFERRY_TRY(side.from->fence());
        RAMFERRY_TRY(side.from->send(side.local.subspan(at, kPage)));
      }
      return settle_all(*side.from, Deadline::never());
    });
  };
  const auto receiving = [&](const Side& side) {
    return start([&side, rounds]() -> Result<> {
      std::vector<std::byte> bytes(kPage);
      for (std::uint64_t round = 0; round < rounds; ++round) {
        RAMFERRY_TRY(receive_exactly(*side.to, bytes, Deadline::never()));
        if (!is_stamped(bytes, round)) return fail(errc::io, "wrong bytes in round " + std::to_string(round));
      }
      return {};
    });
  };
  auto there = sending(sides[0]), back = sending(sides[1]);
  auto at_destination = receiving(sides[0]), at_source = receiving(sides[1]);
  RAMFERRY_EXPECT_OK(there.get());
  RAMFERRY_EXPECT_OK(back.get());
  RAMFERRY_EXPECT_OK(at_destination.get());
  RAMFERRY_EXPECT_OK(at_source.get());
  for (const Side& side : sides)
    for (std::uint64_t round = rounds - kPages; round < rounds; ++round)
      EXPECT_TRUE(is_stamped(side.landing.subspan(round % kPages * kPage, kPage), round)) << round;
}

}  // namespace
}  // namespace ramferry::test
