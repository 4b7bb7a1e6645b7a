// SPDX-License-Identifier: MIT
// The promises about ordered bytes.
#include "contract/channel_contract.hpp"

#include <array>
#include <atomic>
#include <thread>

namespace ramferry::test {
namespace {

using std::chrono::milliseconds;

TEST_P(ChannelContract, BytesArriveCompleteAndInOrder) {
  bytes_arrive_complete_and_in_order(ends());
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
  sent_memory_is_the_callers_again(ends());
}

TEST_P(ChannelContract, SendBlocksWhileNobodyReceives) {
  send_blocks_while_nobody_receives(ends());
}

TEST_P(ChannelContract, ReceiveTimesOutAndLeavesTheStreamAsItWas) {
  receive_times_out_and_leaves_the_stream_as_it_was(ends());
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
  receive_ends_at_the_deadline_though_bytes_come_later(ends());
}

TEST_P(ChannelContract, FinishIsReceivedAsZeroAfterAllBytes) {
  finish_is_received_as_zero_after_all_bytes(ends());
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
  nothing_can_be_sent_after_finish(ends());
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
  message_bytes_are_counted_exactly(ends());
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
