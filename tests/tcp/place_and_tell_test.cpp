// SPDX-License-Identifier: MIT
// A placement and the message about it in one go: whoever has the message has the bytes.
#include "tcp_support.hpp"

#include <ramferry/slot.hpp>
#include <ramferry/traits.hpp>

#include <algorithm>

namespace ramferry::tcp::test {
namespace {

constexpr SlotId kSlot{1};
constexpr std::size_t kPiece = 256 << 10, kPieces = 8;

class PlaceAndTell : public TcpTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(PlaceAndTell, MessageComesBehindItsBytes) {
  auto [source, destination] = channels("tcp:127.0.0.1:0", GetParam());
  auto* const at_once = dynamic_cast<PlacesAndTells*>(source.get());
  ASSERT_NE(at_once, nullptr);
  std::vector<std::byte> from(kPieces * kPiece), into(kPieces * kPiece);
  MemoryLanding landing(into, MemoryLanding::Content::unknown);
  ASSERT_TRUE(destination->expose(kSlot, landing));
  Epoch newest = 0;
  for (std::size_t round = 0; round < 40; ++round) {
    const std::size_t at = round % kPieces * kPiece, bytes = kPiece - round;
    std::fill_n(from.begin() + static_cast<std::ptrdiff_t>(at), bytes, static_cast<std::byte>(round + 1));
    const std::array message = {static_cast<std::byte>(round), std::byte{7}};
    const auto epoch = at_once->place_and_tell({kSlot, at, ConstBytes(from).subspan(at, bytes)}, message);
    ASSERT_TRUE(epoch) << why(epoch);
    EXPECT_EQ(*epoch, newest + 1);
    newest = *epoch;
    std::array<std::byte, 2> heard{};
    ASSERT_TRUE(receive_exactly(*destination, heard, soon()));
    ASSERT_EQ(heard, message);
    const Bytes there = Bytes(into).subspan(at, bytes);
    EXPECT_TRUE(std::equal(there.begin(), there.end(), from.begin() + static_cast<std::ptrdiff_t>(at)));
  }
  EXPECT_TRUE(source->settle(newest, soon()));
  EXPECT_EQ(source->stats().fences, newest);
  EXPECT_EQ(source->stats().message_bytes_sent, 2 * newest);
}

TEST_P(PlaceAndTell, IsRefusedAfterTheEndOfTheBytes) {
  auto [source, destination] = channels("tcp:127.0.0.1:0", GetParam());
  std::vector<std::byte> into(kPiece);
  MemoryLanding landing(into, MemoryLanding::Content::unknown);
  ASSERT_TRUE(destination->expose(kSlot, landing));
  ASSERT_TRUE(source->finish(soon()));
  const std::vector<std::byte> from(kPiece, std::byte{1});
  const auto told = dynamic_cast<PlacesAndTells&>(*source).place_and_tell({kSlot, 0, from}, as_bytes("late"));
  ASSERT_FALSE(told);
  EXPECT_TRUE(told.error().is(errc::wrong_state)) << why(told);
}

INSTANTIATE_TEST_SUITE_P(Lanes, PlaceAndTell, ::testing::Values("?lanes=1", "?lanes=2"),
                         [](const auto& each) { return each.index == 0 ? "One" : "Two"; });

}  // namespace
}  // namespace ramferry::tcp::test
