// SPDX-License-Identifier: MIT
#include "contract/byte_promises.hpp"

#include <algorithm>
#include <array>
#include <thread>

namespace ramferry::test {

using std::chrono::milliseconds;

Result<> send_in_pieces(ByteStream& stream, ConstBytes bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  while (!bytes.empty()) {
    const std::size_t most = random() % 4 == 0 ? 300000 : 300;
    const std::size_t size = std::min<std::size_t>(random() % most, bytes.size());
    RAMFERRY_TRY(stream.send(bytes.first(size)));
    bytes = bytes.subspan(size);
  }
  return {};
}

Result<> receive_in_pieces(ByteStream& stream, Bytes bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  while (!bytes.empty()) {
    const std::size_t most = random() % 4 == 0 ? 300000 : 300;
    const std::size_t size = std::min<std::size_t>(random() % most + 1, bytes.size());
    RAMFERRY_TRY_ASSIGN(const std::size_t got, stream.receive(bytes.first(size), Deadline::never()));
    if (got == 0 || got > size) return fail(errc::io, "received " + std::to_string(got));
    bytes = bytes.subspan(got);
  }
  return {};
}

Result<std::byte> receive_byte(ByteStream& stream, Deadline deadline) {
  std::array<std::byte, 1> byte{};
  RAMFERRY_TRY(receive_exactly(stream, byte, deadline));
  return byte[0];
}

Result<std::vector<std::byte>> receive_all(ByteStream& stream, Deadline deadline) {
  std::vector<std::byte> all;
  std::array<std::byte, 10007> piece{};
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const std::size_t got, stream.receive(piece, deadline));
    if (got == 0) return all;
    all.insert(all.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(got));
  }
}

void bytes_arrive_complete_and_in_order(const ByteEnds& ends) {
  const TestMemory sent(8U << 20), received(8U << 20);
  fill_pattern(sent.bytes(), 1);
  auto sending = ends.start([&] { return send_in_pieces(ends.source, sent.bytes(), 2); });
  RAMFERRY_ASSERT_OK(receive_in_pieces(ends.destination, received.bytes(), 3));
  RAMFERRY_EXPECT_OK(sending.get());
  EXPECT_TRUE(has_pattern(received.bytes(), 1));
}

void sent_memory_is_the_callers_again(const ByteEnds& ends) {
  constexpr int kRounds = 200;
  std::array<std::byte, 5000> buffer{}, received{};
  auto sending = ends.start([&]() -> Result<> {
    for (int round = 0; round < kRounds; ++round) {
      buffer.fill(static_cast<std::byte>(round));
      RAMFERRY_TRY(ends.source.send(buffer));
    }
    return {};
  });
  for (int round = 0; round < kRounds; ++round) {
    RAMFERRY_ASSERT_OK(receive_exactly(ends.destination, received, Deadline::never()));
    ASSERT_TRUE(is_all(received, static_cast<std::byte>(round))) << round;
  }
  RAMFERRY_EXPECT_OK(sending.get());
}

void send_blocks_while_nobody_receives(const ByteEnds& ends) {
  const TestMemory sent(ends.traits.bulk_bytes), received(ends.traits.bulk_bytes);
  fill_pattern(sent.bytes(), 1);
  auto sending = ends.start([&] { return ends.source.send(sent.bytes()); });
  std::this_thread::sleep_for(milliseconds(200));  // no way of waiting for what must not happen
  EXPECT_FALSE(sending.is_over()) << "nothing limits the bytes that nobody receives";
  RAMFERRY_ASSERT_OK(receive_exactly(ends.destination, received.bytes(), Deadline::never()));
  RAMFERRY_EXPECT_OK(sending.get());
  EXPECT_TRUE(has_pattern(received.bytes(), 1));
}

void receive_times_out_and_leaves_the_stream_as_it_was(const ByteEnds& ends) {
  std::array<std::byte, 4> into{};
  const auto before = std::chrono::steady_clock::now();
  RAMFERRY_EXPECT_FAILS(errc::timed_out, ends.destination.receive(into, Deadline::after(milliseconds(20))));
  EXPECT_GE(std::chrono::steady_clock::now() - before, milliseconds(20));
  RAMFERRY_EXPECT_FAILS(errc::timed_out, ends.destination.receive(into, Deadline::after(milliseconds(0))));
  RAMFERRY_ASSERT_OK(ends.source.send(as_bytes("abcd")));
  RAMFERRY_ASSERT_OK(receive_exactly(ends.destination, into, ends.soon()));
  EXPECT_EQ(std::to_integer<char>(into[3]), 'd');
}

void receive_ends_at_the_deadline_though_bytes_come_later(const ByteEnds& ends) {
  std::array<std::byte, 1> into{};
  for (int round = 0; round < 20; ++round) {
    RAMFERRY_EXPECT_FAILS(errc::timed_out, ends.destination.receive(into, Deadline::after(milliseconds(1))));
    RAMFERRY_ASSERT_OK(ends.source.send(as_bytes("x")));
    RAMFERRY_ASSERT_OK(receive_byte(ends.destination, ends.soon()));
  }
}

void finish_is_received_as_zero_after_all_bytes(const ByteEnds& ends) {
  RAMFERRY_ASSERT_OK(ends.source.send(as_bytes("last words")));
  auto finishing = ends.start([&] { return ends.source.finish(Deadline::never()); });
  const auto received = receive_all(ends.destination, ends.soon());
  RAMFERRY_ASSERT_OK(received);
  EXPECT_EQ(received->size(), 10U);
  RAMFERRY_EXPECT_OK(finishing.get());
  std::array<std::byte, 1> into{};
  for (int again = 0; again < 3; ++again)
    EXPECT_EQ(ends.destination.receive(into, ends.soon()).value_or(99), 0U);
}

void nothing_can_be_sent_after_finish(const ByteEnds& ends) {
  RAMFERRY_ASSERT_OK(ends.source.finish(ends.soon()));
  RAMFERRY_EXPECT_FAILS(errc::wrong_state, ends.source.send(as_bytes("x")));
  RAMFERRY_EXPECT_OK(ends.source.finish(ends.soon()));  // again: nothing left to do
}

void message_bytes_are_counted_exactly(const ByteEnds& ends) {
  const TestMemory sent(100003), received(100003);
  auto sending = ends.start([&] { return send_in_pieces(ends.source, sent.bytes(), 1); });
  RAMFERRY_ASSERT_OK(receive_in_pieces(ends.destination, received.bytes(), 2));
  RAMFERRY_ASSERT_OK(sending.get());
  const Deadline soon = ends.soon();  // a writer counts what crossed once its system call returns
  while (ends.source.stats().wire_bytes_sent < 100003U && !soon.passed()) std::this_thread::yield();
  const StreamStats source = ends.source.stats(), destination = ends.destination.stats();
  EXPECT_EQ(source.message_bytes_sent, 100003U);
  EXPECT_EQ(source.message_bytes_received, 0U);
  EXPECT_EQ(destination.message_bytes_sent, 0U);
  EXPECT_EQ(destination.message_bytes_received, 100003U);
  EXPECT_GE(source.wire_bytes_sent, 100003U);
  EXPECT_GE(destination.wire_bytes_received, 100003U);
  EXPECT_EQ(source.placed_bytes_sent, 0U);
  EXPECT_EQ(destination.placed_bytes_received, 0U);
}

void cancel_ends_a_pending_receive(const ByteEnds& ends) {
  auto receiving = ends.start([&]() -> Result<> {
    RAMFERRY_TRY(receive_byte(ends.destination, Deadline::never()));
    return {};
  });
  RAMFERRY_EXPECT_FAILS(errc::cancelled,
                        outcome_of(
                            std::move(receiving), [&] { ends.destination.cancel(); }, ends.traits));
}

void cancel_ends_a_pending_send(const ByteEnds& ends) {
  const TestMemory much(ends.traits.bulk_bytes);
  auto sending = ends.start([&] { return ends.source.send(much.bytes()); });
  RAMFERRY_EXPECT_FAILS(errc::cancelled, outcome_of(
                                             std::move(sending), [&] { ends.source.cancel(); }, ends.traits));
}

void after_cancel_every_byte_call_is_cancelled(const ByteEnds& ends) {
  for (ByteStream* end : {&ends.source, &ends.destination}) {
    end->cancel();
    end->cancel();
  }
  RAMFERRY_EXPECT_FAILS(errc::cancelled, ends.source.send(as_bytes("x")));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, ends.source.finish(ends.soon()));
  RAMFERRY_EXPECT_FAILS(errc::cancelled, receive_byte(ends.destination, ends.soon()));
  ends.source.stats();
  ends.source.facts();
}

}  // namespace ramferry::test
