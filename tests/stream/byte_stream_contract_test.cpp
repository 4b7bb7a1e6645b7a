// SPDX-License-Identifier: MIT
// The byte promises, kept by streams over pipes, sockets and commands.
#include "contract/byte_promises.hpp"

#include <ramferry/posix_transport.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

namespace ramferry::test {
namespace {

struct StreamPair {
  std::unique_ptr<ByteStream> source, destination;
};

struct StreamSubject {
  std::string name;
  std::function<StreamPair()> connect;
};
std::ostream& operator<<(std::ostream& out, const StreamSubject& subject) {
  return out << subject.name;
}

StreamPair pair_of(int read, int write) {
  return {make_fd_stream(UniqueFd(write), "fd:" + std::to_string(write)),
          make_fd_stream(UniqueFd(read), "fd:" + std::to_string(read))};
}

StreamPair connect_pipe() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  return pair_of(ends[0], ends[1]);
}

StreamPair connect_sockets() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  return pair_of(ends[0], ends[1]);
}

/// A command's input, and through a pipe of ours what it makes of it.
StreamPair connect_through_cat() {
  NullLog log;
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  EXPECT_EQ(::fcntl(ends[1], F_SETFD, 0), 0);  // for the command
  auto link = make_posix_transport(log)->connect(
      Endpoint{.scheme = "exec", .target = "exec cat > /dev/fd/" + std::to_string(ends[1])}, {},
      Deadline::never());
  ::close(ends[1]);
  if (!link) {
    ADD_FAILURE() << link.error().message();
    return {};
  }
  return {std::move(std::get<std::unique_ptr<ByteStream>>(*link)), make_fd_stream(UniqueFd(ends[0]), "pipe")};
}

class ByteStreamContract : public ::testing::TestWithParam<StreamSubject> {
 protected:
  void SetUp() override {
    pair_ = GetParam().connect();
    ASSERT_NE(pair_.source, nullptr);
  }
  ByteEnds ends() const { return {*pair_.source, *pair_.destination, {}}; }

  StreamPair pair_;
};

TEST_P(ByteStreamContract, BytesArriveCompleteAndInOrder) {
  bytes_arrive_complete_and_in_order(ends());
}
TEST_P(ByteStreamContract, SentMemoryIsTheCallersAgain) {
  sent_memory_is_the_callers_again(ends());
}
TEST_P(ByteStreamContract, SendBlocksWhileNobodyReceives) {
  send_blocks_while_nobody_receives(ends());
}
TEST_P(ByteStreamContract, ReceiveTimesOutAndLeavesTheStreamAsItWas) {
  receive_times_out_and_leaves_the_stream_as_it_was(ends());
}
TEST_P(ByteStreamContract, ReceiveEndsAtTheDeadlineThoughBytesComeLater) {
  receive_ends_at_the_deadline_though_bytes_come_later(ends());
}
TEST_P(ByteStreamContract, FinishIsReceivedAsZeroAfterAllBytes) {
  finish_is_received_as_zero_after_all_bytes(ends());
}
TEST_P(ByteStreamContract, NothingCanBeSentAfterFinish) {
  nothing_can_be_sent_after_finish(ends());
}
TEST_P(ByteStreamContract, MessageBytesAreCountedExactly) {
  message_bytes_are_counted_exactly(ends());
}
TEST_P(ByteStreamContract, CancelEndsAPendingReceive) {
  cancel_ends_a_pending_receive(ends());
}
TEST_P(ByteStreamContract, CancelEndsAPendingSend) {
  cancel_ends_a_pending_send(ends());
}
TEST_P(ByteStreamContract, AfterCancelEveryByteCallIsCancelled) {
  after_cancel_every_byte_call_is_cancelled(ends());
}

TEST_P(ByteStreamContract, AReaderThatIsGoneFailsTheWriterAndKillsNobody) {
  pair_.destination.reset();
  const TestMemory much(32U << 20);
  Result<> outcome;
  while (outcome) outcome = pair_.source->send(much.bytes());
  EXPECT_FALSE(failed_with(outcome, errc::cancelled)) << why(outcome);
  EXPECT_TRUE(failed_with(outcome, errc::peer_gone)) << why(outcome);
  EXPECT_TRUE(failed_with(pair_.source->send(as_bytes("x")), errc::peer_gone)) << "a failure is for good";
}

TEST_P(ByteStreamContract, WhatHasArrivedIsReceivedThoughTheDeadlinePassed) {
  RAMFERRY_ASSERT_OK(pair_.source->send(as_bytes("abcd")));
  RAMFERRY_ASSERT_OK(receive_byte(*pair_.destination, ends().soon()));  // so the others have arrived too
  std::array<std::byte, 3> into{};
  EXPECT_EQ(pair_.destination->receive(into, Deadline::after(std::chrono::milliseconds(0))).value_or(0), 3U);
}

INSTANTIATE_TEST_SUITE_P(Posix, ByteStreamContract,
                         ::testing::Values(StreamSubject{"pipe", connect_pipe},
                                           StreamSubject{"socket", connect_sockets},
                                           StreamSubject{"command", connect_through_cat}),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace ramferry::test
