// SPDX-License-Identifier: MIT
// The plain byte stream: what a QEMU and a QMP client see.
#include "../../tcp/src/socket_stream.hpp"

#include "../support/test_memory.hpp"
#include "tcp_support.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <cstring>
#include <thread>

namespace ramferry::tcp::test {
namespace {

using std::chrono::milliseconds;

struct StreamPair {
  std::unique_ptr<ByteStream> a, b;
};

class SocketStreamTest : public TcpTest, public ::testing::WithParamInterface<const char*> {
 protected:
  StreamPair streams() {
    const std::string at =
        std::string(GetParam()) == "unix" ? "unix:" + socket_path("stream") : "tcp:127.0.0.1:0";
    const auto listener = listen(at + "?dialect=qemu");
    auto connected = connect(listener->local());
    auto accepted = listener->accept(soon());
    EXPECT_TRUE(connected && accepted);
    return {std::get<1>(std::move(*connected)), std::get<1>(std::move(*accepted))};
  }
};

TEST_P(SocketStreamTest, ABareSocketThatIsSilentIsNotWaitedForForEver) {
  StreamPair pair = streams();
  const int socket = dynamic_cast<SocketBacked&>(*pair.a).socket();
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const UniqueFd reading(pipe[0]), writing(pipe[1]);
  auto taking = std::async(std::launch::async, [&] {
    return ::splice(socket, nullptr, writing.get(), nullptr, 4096, SPLICE_F_NONBLOCK) < 0 ? errno : 0;
  });
  if (taking.wait_for(std::chrono::seconds(20)) != std::future_status::ready) pair.a->cancel();
  EXPECT_EQ(taking.get(), EAGAIN);
}

TEST_P(SocketStreamTest, CarriesBytesBothWaysAndCountsThem) {
  StreamPair pair = streams();
  std::vector<std::byte> sent(3 << 20), received(sent.size());
  ramferry::test::fill_pattern(sent, 1);
  auto sending = std::async(std::launch::async, [&] { return pair.a->send(sent); });
  ASSERT_TRUE(receive_exactly(*pair.b, received, soon()).has_value());
  ASSERT_TRUE(sending.get().has_value());
  EXPECT_TRUE(sent == received);
  EXPECT_EQ(pair.a->stats().message_bytes_sent, sent.size());
  EXPECT_EQ(pair.a->stats().wire_bytes_sent, sent.size());
  EXPECT_EQ(pair.b->stats().message_bytes_received, sent.size());
  EXPECT_GT(pair.b->stats().system_calls, 0U);
  ASSERT_TRUE(pair.b->send(as_bytes("ok")).has_value());
  std::array<std::byte, 2> back{};
  EXPECT_TRUE(receive_exactly(*pair.a, back, soon()).has_value());
}

TEST_P(SocketStreamTest, ReceiveTimesOutAndGoesOn) {
  StreamPair pair = streams();
  std::array<std::byte, 4> into{};
  const auto late = pair.a->receive(into, Deadline::after(milliseconds(10)));
  ASSERT_FALSE(late.has_value());
  EXPECT_TRUE(late.error().is(errc::timed_out));
  ASSERT_TRUE(pair.b->send(as_bytes("x")).has_value());
  EXPECT_EQ(pair.a->receive(into, soon()).value_or(0), 1U);
}

TEST_P(SocketStreamTest, FinishEndsOneDirectionOnly) {
  StreamPair pair = streams();
  ASSERT_TRUE(pair.a->send(as_bytes("bye")).has_value());
  ASSERT_TRUE(pair.a->finish(soon()).has_value());
  EXPECT_TRUE(pair.a->finish(soon()).has_value());
  EXPECT_FALSE(pair.a->send(as_bytes("x")).has_value());
  std::array<std::byte, 8> into{};
  ASSERT_TRUE(receive_exactly(*pair.b, Bytes(into).first(3), soon()).has_value());
  for (int again = 0; again < 2; ++again) EXPECT_EQ(pair.b->receive(into, soon()).value_or(9), 0U);
  ASSERT_TRUE(pair.b->send(as_bytes("thanks")).has_value());
  EXPECT_TRUE(receive_exactly(*pair.a, Bytes(into).first(6), soon()).has_value());
}

TEST_P(SocketStreamTest, FinishedBytesOutliveTheirSenderThoughItLeftBytesUnread) {
  for (int round = 0; round < 5; ++round) {
    StreamPair pair = streams();
    std::vector<std::byte> sent(2 << 20), received(sent.size());
    ramferry::test::fill_pattern(sent, 7);
    ASSERT_TRUE(pair.b->send(as_bytes("never received")).has_value());
    auto sending = std::async(std::launch::async, [&] {
      EXPECT_TRUE(pair.a->send(sent).has_value());
      EXPECT_TRUE(pair.a->finish(soon()).has_value());
      pair.a.reset();
    });
    const auto outcome = receive_exactly(*pair.b, received, soon());
    ASSERT_TRUE(outcome.has_value()) << why(outcome);
    EXPECT_TRUE(sent == received);
    sending.get();
  }
}

TEST_P(SocketStreamTest, CancelEndsPendingAndLaterCalls) {
  StreamPair pair = streams();
  auto receiving = std::async(std::launch::async, [&] {
    std::array<std::byte, 4> into{};
    return pair.a->receive(into, Deadline::never());
  });
  std::vector<std::byte> much(64 << 20);
  auto sending = std::async(std::launch::async, [&] { return pair.a->send(much); });
  while (pair.a->stats().wire_bytes_sent == 0) std::this_thread::yield();
  pair.a->cancel();
  EXPECT_TRUE(receiving.get().error().is(errc::cancelled));
  const auto sent = sending.get();
  ASSERT_FALSE(sent.has_value());
  EXPECT_TRUE(sent.error().is(errc::cancelled)) << why(sent);
  EXPECT_TRUE(pair.a->send(as_bytes("x")).error().is(errc::cancelled));
  EXPECT_TRUE(pair.a->finish(soon()).error().is(errc::cancelled));
}

TEST_P(SocketStreamTest, APeerThatGoesIsGone) {
  StreamPair pair = streams();
  pair.b.reset();
  Result<> sent;
  for (int i = 0; i < 1000 && sent; ++i) sent = pair.a->send(std::vector<std::byte>(100000));
  ASSERT_FALSE(sent.has_value());
  EXPECT_TRUE(sent.error().is(errc::peer_gone)) << why(sent);
}

INSTANTIATE_TEST_SUITE_P(Tcp, SocketStreamTest, ::testing::Values("tcp", "unix"),
                         [](const auto& each) { return std::string(each.param); });

class DescriptorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    stream_ = std::make_unique<SocketStream>(UniqueFd(ends[0]), std::chrono::seconds(10));
    other_.reset(ends[1]);
  }
  /// One byte with `count` copies of descriptor `fd`.
  void send_descriptors(int fd, std::size_t count) const {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(16 * sizeof(int))> control{};
    std::byte byte{'x'};
    iovec piece{&byte, 1};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (std::size_t i = 0; i < count; ++i) std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
    ASSERT_EQ(::sendmsg(other_.get(), &message, 0), 1);
  }
  void receive_byte() const {
    std::array<std::byte, 1> into{};
    ASSERT_EQ(stream_->receive(into, soon()).value_or(0), 1U);
  }
  static std::size_t open_descriptors() {
    std::size_t count = 0;
    for (int fd = 0; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) != -1;
    return count;
  }

  std::unique_ptr<SocketStream> stream_;
  UniqueFd other_;
};

TEST_F(DescriptorTest, ComeAlongWithBytesInOrderAndAreClosedOnExec) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const UniqueFd reading(pipe[0]), writing(pipe[1]);
  send_descriptors(writing.get(), 1);
  send_descriptors(reading.get(), 1);
  receive_byte();
  receive_byte();
  std::vector<UniqueFd> taken = stream_->take_descriptors();
  ASSERT_EQ(taken.size(), 2U);
  EXPECT_TRUE(stream_->take_descriptors().empty());
  EXPECT_NE(::fcntl(taken[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_EQ(::write(taken[0].get(), "y", 1), 1);
  char byte = 0;
  ASSERT_EQ(::read(taken[1].get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
}

TEST_F(DescriptorTest, ThoseNeverTakenAndThoseTooManyAreClosed) {
  const std::size_t before = open_descriptors();
  for (std::size_t i = 0; i < SocketStream::kMostDescriptors / 16 + 3; ++i) {
    send_descriptors(0, 16);
    receive_byte();
  }
  EXPECT_EQ(open_descriptors(), before + SocketStream::kMostDescriptors);
  stream_.reset();
  EXPECT_EQ(open_descriptors(), before - 1);
}

}  // namespace
}  // namespace ramferry::tcp::test
