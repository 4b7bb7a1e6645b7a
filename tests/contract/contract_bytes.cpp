// SPDX-License-Identifier: MIT
// The promises about ordered bytes.
#include "contract/channel_contract.hpp"

#include <array>
#include <atomic>
#include <thread>

namespace ramferry::test {
namespace {

using std::chrono::milliseconds;

/// Sends `bytes` in pieces of random sizes, empty ones among them.
Result<> send_in_pieces(Channel& channel, ConstBytes bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  while (!bytes.empty()) {
    const std::size_t most = random() % 4 == 0 ? 300000 : 300;
    const std::size_t size = std::min<std::size_t>(random() % most, bytes.size());
    RAMFERRY_TRY(channel.send(bytes.first(size)));
    bytes = bytes.subspan(size);
  }
  return {};
}

/// Receives bytes.size() bytes in pieces of random sizes.
Result<> receive_in_pieces(Channel& channel, Bytes bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  while (!bytes.empty()) {
    const std::size_t most = random() % 4 == 0 ? 300000 : 300;
    const std::size_t size = std::min<std::size_t>(random() % most + 1, bytes.size());
    RAMFERRY_TRY_ASSIGN(const std::size_t got, channel.receive(bytes.first(size), Deadline::never()));
    if (got == 0 || got > size) return fail(errc::io, "received " + std::to_string(got));
    bytes = bytes.subspan(got);
  }
  return {};
}

Result<std::byte> receive_byte(Channel& channel, Deadline deadline) {
  std::array<std::byte, 1> byte{};
  RAMFERRY_TRY(receive_exactly(channel, byte, deadline));
  return byte[0];
}

TEST_P(ChannelContract, BytesArriveCompleteAndInOrder) {
  const Bytes sent = memory(8U << 20), received = memory(8U << 20);
  fill_pattern(sent, 1);
  auto sending = start([&] { return send_in_pieces(source(), sent, 2); });
  RAMFERRY_ASSERT_OK(receive_in_pieces(destination(), received, 3));
  RAMFERRY_EXPECT_OK(sending.get());
  EXPECT_TRUE(has_pattern(received, 1));
}

TEST_P(ChannelContract, BytesFlowBothWaysAtOnce) {
  const Bytes there = memory(4U << 20), back = memory(4U << 20);
  const Bytes got_there = memory(there.size()), got_back = memory(back.size());
  fill_pattern(there, 1);
  fill_pattern(back, 2);
  auto sending_there = start([&] { return send_in_pieces(source(), there, 3); });
  auto sending_back = start([&] { return send_in_pieces(destination(), back, 4); });
  auto receiving_back = start([&] { return receive_in_pieces(source(), got_back, 5); });
  RAMFERRY_EXPECT_OK(receive_in_pieces(destination(), got_there, 6));
  RAMFERRY_EXPECT_OK(sending_there.get());
  RAMFERRY_EXPECT_OK(sending_back.get());
  RAMFERRY_EXPECT_OK(receiving_back.get());
  EXPECT_TRUE(has_pattern(got_there, 1));
  EXPECT_TRUE(has_pattern(got_back, 2));
}

TEST_P(ChannelContract, SentMemoryIsTheCallersAgain) {
  constexpr int kRounds = 200;
  std::array<std::byte, 5000> buffer{}, received{};
  auto sending = start([&]() -> Result<> {
    for (int round = 0; round < kRounds; ++round) {
      buffer.fill(static_cast<std::byte>(round));
      RAMFERRY_TRY(source().send(buffer));
    }
    return {};
  });
  for (int round = 0; round < kRounds; ++round) {
    RAMFERRY_ASSERT_OK(receive_exactly(destination(), received, Deadline::never()));
    ASSERT_TRUE(is_all(received, static_cast<std::byte>(round))) << round;
  }
  RAMFERRY_EXPECT_OK(sending.get());
}

TEST_P(ChannelContract, SendBlocksWhileNobodyReceives) {
  const Bytes sent = memory(traits().bulk_bytes), received = memory(traits().bulk_bytes);
  fill_pattern(sent, 1);
  auto sending = start([&] { return source().send(sent); });
  std::this_thread::sleep_for(milliseconds(200));  // no way of waiting for what must not happen
  EXPECT_FALSE(sending.is_over()) << "nothing limits the bytes that nobody receives";
  RAMFERRY_ASSERT_OK(receive_exactly(destination(), received, Deadline::never()));
  RAMFERRY_EXPECT_OK(sending.get());
  EXPECT_TRUE(has_pattern(received, 1));
}

TEST_P(ChannelContract, ReceiveTimesOutAndLeavesTheStreamAsItWas) {
  std::array<std::byte, 4> into{};
  const auto before = std::chrono::steady_clock::now();
  RAMFERRY_EXPECT_FAILS(errc::timed_out, destination().receive(into, Deadline::after(milliseconds(20))));
  EXPECT_GE(std::chrono::steady_clock::now() - before, milliseconds(20));
  RAMFERRY_EXPECT_FAILS(errc::timed_out, destination().receive(into, Deadline::after(milliseconds(0))));
  RAMFERRY_ASSERT_OK(source().send(as_bytes("abcd")));
  RAMFERRY_ASSERT_OK(receive_exactly(destination(), into, soon()));
  EXPECT_EQ(std::to_integer<char>(into[3]), 'd');
  RAMFERRY_ASSERT_OK(destination().send(as_bytes("x")));
  RAMFERRY_EXPECT_OK(receive_byte(source(), soon()));
}

TEST_P(ChannelContract, WhatHasArrivedIsReceivedThoughTheDeadlinePassed) {
  RAMFERRY_ASSERT_OK(source().send(as_bytes("abcd")));
  RAMFERRY_ASSERT_OK(settle_all(source(), soon()));  // acknowledged: so the bytes have arrived
  std::array<std::byte, 8> into{};
  const auto got = destination().receive(into, Deadline::after(milliseconds(0)));
  RAMFERRY_ASSERT_OK(got);
  EXPECT_GE(*got, 1U);
}

TEST_P(ChannelContract, ReceiveEndsAtTheDeadlineThoughBytesComeLater) {
  std::array<std::byte, 1> into{};
  for (int round = 0; round < 20; ++round) {
    const auto late = destination().receive(into, Deadline::after(milliseconds(1)));
    EXPECT_TRUE(failed_with(late, errc::timed_out)) << why(late);
    RAMFERRY_ASSERT_OK(source().send(as_bytes("x")));
    RAMFERRY_ASSERT_OK(receive_byte(destination(), soon()));
  }
}

TEST_P(ChannelContract, FinishIsReceivedAsZeroAfterAllBytes) {
  RAMFERRY_ASSERT_OK(source().send(as_bytes("last words")));
  auto finishing = start([&] { return source().finish(Deadline::never()); });
  const auto received = receive_all(destination(), soon());
  RAMFERRY_ASSERT_OK(received);
  EXPECT_EQ(received->size(), 10U);
  RAMFERRY_EXPECT_OK(finishing.get());
  std::array<std::byte, 1> into{};
  for (int again = 0; again < 3; ++again) EXPECT_EQ(destination().receive(into, soon()).value_or(99), 0U);
}

TEST_P(ChannelContract, TheOtherDirectionFlowsOnAfterFinish) {
  const Bytes landing = expose_memory(source(), kSlot, kPage);
  const Bytes local = lent_memory(destination(), kPage);
  RAMFERRY_ASSERT_OK(source().finish(soon()));
  fill_pattern(local, 1);
  const std::array placements = {Placement{.slot = kSlot, .bytes = local}};
  RAMFERRY_ASSERT_OK(destination().place(placements));
  RAMFERRY_ASSERT_OK(settle_all(destination(), soon()));
  RAMFERRY_ASSERT_OK(destination().send(as_bytes("x")));
  RAMFERRY_EXPECT_OK(receive_byte(source(), soon()));
  EXPECT_TRUE(has_pattern(landing, 1));
  RAMFERRY_EXPECT_OK(destination().finish(soon()));
}

TEST_P(ChannelContract, NothingCanBeSentAfterFinish) {
  RAMFERRY_ASSERT_OK(source().finish(soon()));
  RAMFERRY_EXPECT_FAILS(errc::wrong_state, source().send(as_bytes("x")));
}

TEST_P(ChannelContract, FinishedBytesOutliveTheirSender) {
  const Bytes sent = memory(4U << 20);
  fill_pattern(sent, 1);
  // The other way bytes are left unread: they must not cost those that were finished.
  RAMFERRY_EXPECT_OK(destination().send(as_bytes("never received")));
  auto all_of_source = start([&]() -> Result<> {
    RAMFERRY_TRY(source().send(sent));
    RAMFERRY_TRY(source().finish(Deadline::never()));
    destroy_source();
    return {};
  });
  const auto received = receive_all(destination(), Deadline::never());
  RAMFERRY_ASSERT_OK(received);
  EXPECT_EQ(received->size(), sent.size());
  EXPECT_TRUE(has_pattern(*received, 1));
  RAMFERRY_EXPECT_OK(all_of_source.get());
}

TEST_P(ChannelContract, MessageBytesAreCountedExactly) {
  const Bytes sent = memory(100003), received = memory(100003);
  auto sending = start([&] { return send_in_pieces(source(), sent, 1); });
  RAMFERRY_ASSERT_OK(receive_in_pieces(destination(), received, 2));
  RAMFERRY_ASSERT_OK(sending.get());
  RAMFERRY_ASSERT_OK(destination().send(as_bytes("abc")));
  std::array<std::byte, 3> back{};
  RAMFERRY_ASSERT_OK(receive_exactly(source(), back, soon()));

  EXPECT_EQ(source().stats().message_bytes_sent, sent.size());
  EXPECT_EQ(source().stats().message_bytes_received, 3U);
  EXPECT_EQ(destination().stats().message_bytes_sent, 3U);
  EXPECT_EQ(destination().stats().message_bytes_received, sent.size());
  EXPECT_GE(source().stats().wire_bytes_sent, sent.size());
  EXPECT_GE(destination().stats().wire_bytes_received, sent.size());
  EXPECT_EQ(source().stats().placed_bytes_sent, 0U);
  EXPECT_EQ(destination().stats().placed_bytes_received, 0U);
}

TEST_P(ChannelContract, BothEndsKnowTheSameSession) {
  EXPECT_EQ(source().session(), destination().session());
  EXPECT_FALSE(source().session().is_nil());
  const SessionId before = source().session();
  connect();
  EXPECT_NE(source().session(), before);
}

TEST_P(ChannelContract, FactsHaveNames) {
  for (const Channel* end : {&source(), &destination()})
    for (const auto& [name, value] : end->facts()) EXPECT_FALSE(name.empty()) << value;
}

TEST_P(ChannelContract, AnyThreadMayLookWhileDataFlows) {
  expose_memory(destination(), kSlot, 1U << 20);
  const Bytes local = lent_memory(source(), 1U << 20);
  std::atomic<bool> over{false};
  auto looking = start([&] {
    Epoch newest = 0;
    bool monotonic = true;
    while (!over) {
      for (const Channel* end : {&source(), &destination()}) {
        end->stats();
        end->facts();
        end->session();
      }
      const Epoch now = source().settled();
      monotonic = monotonic && now >= newest;
      newest = now;
    }
    return monotonic;
  });
  std::array<std::byte, 4> into{};
  for (int round = 0; round < 50; ++round) {
    const std::array placements = {Placement{.slot = kSlot, .bytes = local}};
    RAMFERRY_EXPECT_OK(source().place(placements));
    RAMFERRY_EXPECT_OK(source().send(as_bytes("abcd")));
    RAMFERRY_EXPECT_OK(settle_all(source(), soon()));
    RAMFERRY_EXPECT_OK(receive_exactly(destination(), into, soon()));
  }
  over = true;
  EXPECT_TRUE(looking.get()) << "settled() went back";
}

}  // namespace
}  // namespace ramferry::test
