// SPDX-License-Identifier: MIT
// What a peer that breaks the protocol gets, on a live channel: one clear error at both ends, and nothing
// lands.
#include "../support/landings.hpp"
#include "../support/test_memory.hpp"
#include "tcp_support.hpp"

#include <gmock/gmock.h>

#include <functional>

namespace ramferry::tcp::test {
namespace {

using ::testing::HasSubstr;
using Bytestring = std::vector<std::byte>;

constexpr std::size_t kPage = 4096;
constexpr SlotId kSlot{1};

Bytestring place(SlotId slot, std::uint64_t offset, std::uint32_t length, Encoding encoding = kRawEncoding) {
  Bytestring bytes;
  encode_place(
      std::vector<Extent>{
          {.slot = slot, .offset = offset, .length = length, .bytes = length, .encoding = encoding}},
      bytes);
  bytes.resize(bytes.size() + length, std::byte{0x55});
  return bytes;
}

Bytestring zero(SlotId slot, std::uint64_t offset, std::uint64_t length) {
  Bytestring bytes;
  encode_zero(std::vector<ZeroRun>{{slot, offset, length}}, bytes);
  return bytes;
}

Bytestring message(std::size_t size) {
  Bytestring bytes;
  encode_bytes(size, bytes);
  bytes.resize(bytes.size() + size, std::byte{'m'});
  return bytes;
}

Bytestring fence(Epoch epoch) {
  Bytestring bytes;
  encode_fence(epoch, bytes);
  return bytes;
}

Bytestring status(Epoch in_place, std::uint64_t consumed) {
  const auto frame = encode_status(in_place, consumed);
  return {frame.begin(), frame.end()};
}

Bytestring finish() {
  Bytestring bytes;
  encode_finish(bytes);
  return bytes;
}

Bytestring operator+(Bytestring a, const Bytestring& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Bytestring times(std::size_t count, const Bytestring& bytes) {
  Bytestring all;
  for (std::size_t i = 0; i < count; ++i) all.insert(all.end(), bytes.begin(), bytes.end());
  return all;
}

struct Breach {
  const char* name;
  Bytestring bytes;
  const char* says;
  errc condition = errc::protocol_mismatch;
};

class BreachTest : public TcpTest, public ::testing::WithParamInterface<Breach> {};

TEST_P(BreachTest, IsToldToBothEndsAndNothingLands) {
  ramferry::test::TestMemory around(3 * kPage);
  std::fill(around.bytes().begin(), around.bytes().end(), std::byte{0xaa});
  MemoryLanding landing(around.slice(kPage, kPage), MemoryLanding::Content::unknown);
  RawLink link = raw_link();
  ASSERT_TRUE(link.channel->expose(kSlot, landing).has_value());
  auto saying = std::async(std::launch::async, [&] { link.peer->say(GetParam().bytes); });
  // Nobody receives until the channel has failed, so that what is too much stays too much.
  EXPECT_THAT(link.peer->hear_error(), HasSubstr(GetParam().says));
  saying.get();
  const auto outcome = link.channel->send(as_bytes("x"));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_TRUE(outcome.error().is(GetParam().condition)) << outcome.error().message();
  EXPECT_THAT(outcome.error().message(), HasSubstr(GetParam().says));
  std::array<std::byte, 4096> into{};
  Result<std::size_t> got = link.channel->receive(into, soon());
  while (got && *got > 0) got = link.channel->receive(into, soon());  // what came before is still received
  link.channel.reset();
  EXPECT_TRUE(ramferry::test::is_all(around.bytes(), std::byte{0xaa}));
}

INSTANTIATE_TEST_SUITE_P(
    Tcp, BreachTest,
    ::testing::Values(Breach{"unknown_type", Bytestring(kHeaderBytes, std::byte{99}), "unknown type 99"},
                      Breach{"zeros", Bytestring(kHeaderBytes), "unknown type 0"},
                      Breach{"unknown_slot", place(SlotId{2}, 0, 10), "slot 2 is not exposed"},
                      Breach{"beyond_the_slot", place(kSlot, 1, kPage), "do not fit"},
                      Breach{"far_beyond_the_slot", place(kSlot, ~0ULL - 5, 10), "do not fit"},
                      Breach{"second_extent_beyond",
                             [] {
                               Bytestring bytes;
                               encode_place(
                                   std::vector<Extent>{
                                       {.slot = kSlot, .offset = kPage, .length = 8, .bytes = 8},
                                       {.slot = kSlot, .offset = 0, .length = 8, .bytes = 8}},
                                   bytes);
                               return bytes + Bytestring(16);
                             }(),
                             "do not fit"},
                      Breach{"zero_beyond_the_slot", zero(kSlot, kPage, 1), "do not fit"},
                      Breach{"zero_of_everything", zero(kSlot, 0, ~0ULL), "do not fit"},
                      Breach{"encoded_into_memory", place(kSlot, 0, 10, 3), "encoding 3", errc::unsupported},
                      Breach{"more_bytes_than_granted", times(17, message(kMaxMessageBytes)),
                             "more bytes than it was granted"},
                      Breach{"fence_from_the_future", fence(2), "fence 2 follows its fence 0"},
                      Breach{"fence_again", fence(1) + fence(1), "fence 1 follows its fence 1"},
                      Breach{"acknowledges_no_fence", status(1, 0), "never sent"},
                      Breach{"received_more_than_was_sent", status(0, 1), "never sent"},
                      Breach{"bytes_after_the_last", finish() + message(1), "after the last ones"},
                      Breach{"finishes_twice", finish() + finish(), "twice"}),
    [](const auto& each) { return std::string(each.param.name); });

class CutTest : public TcpTest {
 protected:
  Result<std::size_t> outcome_of(const Bytestring& bytes, Landing& landing) {
    RawLink link = raw_link();
    EXPECT_TRUE(link.channel->expose(kSlot, landing).has_value());
    link.peer->say(bytes);
    link.peer->close();
    std::array<std::byte, 16> into{};
    return link.channel->receive(into, soon());
  }
};

TEST_F(CutTest, AConnectionCutInAFrameIsAPeerThatIsGone) {
  ramferry::test::TestMemory memory(kPage);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::unknown);
  Bytestring two;
  encode_place(std::vector<Extent>{{.slot = kSlot, .offset = 0, .length = 8, .bytes = 8},
                                   {.slot = kSlot, .offset = 16, .length = 8, .bytes = 8}},
               two);
  two.resize(two.size() + 16);
  for (const Bytestring& frame : {place(kSlot, 0, 64), two, message(64)}) {
    for (std::size_t size = 1; size < frame.size(); size += 13) {
      const auto outcome =
          outcome_of({frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size)}, landing);
      ASSERT_FALSE(outcome.has_value());
      EXPECT_TRUE(outcome.error().is(errc::peer_gone)) << outcome.error().message();
      EXPECT_THAT(outcome.error().message(), HasSubstr("middle of a frame"));
    }
  }
  const auto between = outcome_of(fence(1), landing);
  ASSERT_FALSE(between.has_value());
  EXPECT_TRUE(between.error().is(errc::peer_gone));
}

TEST_F(CutTest, FramesMayArriveByteByByte) {
  ramferry::test::TestMemory memory(kPage);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::unknown);
  RawLink link = raw_link();
  ASSERT_TRUE(link.channel->expose(kSlot, landing).has_value());
  for (const std::byte& each : place(kSlot, 5, 100) + fence(1) + place(kSlot, 300, 3) + message(2))
    link.peer->say({&each, 1});
  std::array<std::byte, 2> into{};
  ASSERT_TRUE(receive_exactly(*link.channel, into, soon()).has_value());
  EXPECT_EQ(std::to_integer<char>(into[1]), 'm');
  EXPECT_TRUE(ramferry::test::is_all(memory.slice(5, 100), std::byte{0x55}));
  EXPECT_TRUE(ramferry::test::is_all(memory.slice(300, 3), std::byte{0x55}));
  EXPECT_TRUE(ramferry::test::is_all(memory.slice(105, 195), std::byte{0}));
  EXPECT_EQ(link.channel->stats().placed_bytes_received, 103U);
}

TEST_F(CutTest, APeersErrorIsHeardAfterItsBytesAndCannotHarmATerminal) {
  RawLink link = raw_link();
  Bytestring error;
  encode_error("disk \x1b[2Jfull", error);
  link.peer->say(message(3) + error);
  link.peer->close();
  std::array<std::byte, 16> into{};
  EXPECT_EQ(link.channel->receive(into, soon()).value_or(0), 3U);
  const auto outcome = link.channel->receive(into, soon());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_TRUE(outcome.error().is(errc::peer_failed));
  EXPECT_THAT(outcome.error().message(), HasSubstr("disk ?[2Jfull"));
}

TEST_F(CutTest, PlacingAfterRevokeEndsTheChannelAndLandsNothing) {
  ramferry::test::TestMemory memory(kPage);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::unknown);
  RawLink link = raw_link();
  ASSERT_TRUE(link.channel->expose(kSlot, landing).has_value());
  ASSERT_TRUE(link.channel->revoke(soon()).has_value());
  link.peer->say(place(kSlot, 0, 64));
  EXPECT_THAT(link.peer->hear_error(), HasSubstr("windows were closed"));
  EXPECT_TRUE(ramferry::test::is_all(memory.bytes(), std::byte{0}));
}

TEST_F(CutTest, APeerThatStopsInAPlacementLosesTheChannelToRevoke) {
  ramferry::test::TestMemory memory(kPage);
  MemoryLanding landing(memory.bytes(), MemoryLanding::Content::unknown);
  RawLink link = raw_link();
  ASSERT_TRUE(link.channel->expose(kSlot, landing).has_value());
  Bytestring frame = place(kSlot, 0, 64);
  frame.resize(frame.size() - 32);
  const std::uint64_t before = link.channel->stats().wire_bytes_received;
  link.peer->say(frame);
  while (link.channel->stats().wire_bytes_received < before + frame.size()) std::this_thread::yield();
  EXPECT_TRUE(link.channel->revoke(Deadline::after(std::chrono::milliseconds(20))).has_value());
  link.peer->say(Bytestring(32, std::byte{0x55}));
  EXPECT_FALSE(link.channel->send(as_bytes("x")).has_value());
  EXPECT_TRUE(ramferry::test::is_all(memory.slice(32, kPage - 32), std::byte{0}));
}

}  // namespace
}  // namespace ramferry::tcp::test
