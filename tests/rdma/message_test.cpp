// SPDX-License-Identifier: MIT
#include "message.hpp"

#include "rdma/sample_messages.hpp"

#include <gmock/gmock.h>

#include <random>

namespace ramferry::rdma {
namespace {

TEST(ControlMessage, IsReadAsItWasWritten) {
  for (const Message& message : one_of_each()) {
    std::vector<std::byte> frame = encode(message);
    stamp(frame, {7, 0x1122334455667788});
    const auto read = decode(frame);
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(read->header.credits, 7);
    EXPECT_EQ(read->header.consumed, 0x1122334455667788U);
    EXPECT_EQ(read->message.index(), message.index());
    std::vector<std::byte> again = encode(read->message);
    stamp(again, read->header);
    EXPECT_EQ(again, frame) << "type " << message.index() + 1;
  }
}

TEST(ControlMessage, OnlyDataCountsAgainstTheBuffer) {
  for (const Message& message : one_of_each()) {
    const bool data = std::holds_alternative<BytesMessage>(message) ||
                      std::holds_alternative<ZeroMessage>(message) ||
                      std::holds_alternative<StoreMessage>(message);
    const auto frame = encode(message);
    EXPECT_EQ(data_bytes(frame), data ? frame.size() - kHeaderBytes : 0);
  }
}

TEST(ControlMessage, IsRefusedIfCutOrLong) {
  for (const Message& message : one_of_each()) {
    const std::vector<std::byte> frame = encode(message);
    for (std::size_t size = 0; size < frame.size(); ++size) {
      const auto read = decode(ConstBytes(frame).first(size));
      ASSERT_FALSE(read) << "type " << message.index() + 1 << " cut to " << size;
      EXPECT_TRUE(read.error().is(errc::protocol_mismatch));
    }
    std::vector<std::byte> longer = frame;
    longer.push_back({});
    EXPECT_FALSE(decode(longer));
  }
}

TEST(ControlMessage, ZeroedMemoryIsNone) {
  const std::vector<std::byte> zeros(kFrameBytes);
  const auto read = decode(zeros);
  ASSERT_FALSE(read);
  EXPECT_TRUE(read.error().is(errc::protocol_mismatch));
}

TEST(ControlMessage, AnythingIsReadOrRefused) {
  std::mt19937_64 random(1);
  const std::vector<Message> messages = one_of_each();
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> frame = encode(messages[random() % messages.size()]);
    for (std::uint64_t flips = random() % 4; flips > 0; --flips)
      frame[random() % frame.size()] ^= static_cast<std::byte>(1U << random() % 8);
    if (const auto read = decode(frame)) {
      EXPECT_LE(encode(read->message).size(), kFrameBytes);
    }
  }
}

TEST(ControlMessage, AFarewellCannotCommandATerminal) {
  const auto read = decode(encode(Farewell{"bad\x1b[2J\n"}));
  ASSERT_TRUE(read);
  EXPECT_EQ(std::get<Farewell>(read->message).text, "bad?[2J?");
}

TEST(ControlMessage, FullListsFitAFrame) {
  const ZeroMessage zero{std::vector<ZeroRun>(kMostZeroRuns)};
  const WantMessage want{false, std::vector<Want>(kMostWants)};
  const GrantMessage grant{std::vector<Grant>(kMostGrants)};
  const ReleaseMessage release{std::vector<Release>(kMostReleases)};
  for (const Message& message : std::vector<Message>{zero, want, grant, release})
    EXPECT_LE(encode(message).size(), kFrameBytes);
}

TEST(LaneFence, IsReadAsItWasWritten) {
  std::vector<std::byte> bytes(kLaneFenceBytes);
  encode(LaneFence{1, 0x0102030405060708, 3}, bytes);
  const auto read = decode_lane_fence(bytes);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->epoch, 1U);
  EXPECT_EQ(read->writes, 0x0102030405060708U);
  EXPECT_EQ(read->bytes, 3U);
  EXPECT_FALSE(decode_lane_fence(ConstBytes(bytes).first(31)));
  bytes[7] ^= std::byte{1};
  EXPECT_FALSE(decode_lane_fence(bytes));
}

}  // namespace
}  // namespace ramferry::rdma
