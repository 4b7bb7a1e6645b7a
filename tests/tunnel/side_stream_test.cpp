// SPDX-License-Identifier: MIT
// Streams beside the channel.
#include "messages.hpp"
#include "tunnel_support.hpp"

#include <ramferry/side_streams.hpp>

#include <array>
#include <future>
#include <vector>

namespace ramferry::tunnel {
namespace {

/// Both plain ends are bare sockets, and so is the way between them.
TEST(TunnelSides, HoldBackASenderWhoseReaderDoesNotRead) {
  TunnelPair tunnel(Fabric::unix_socket);
  auto a = tunnel.open();
  auto b = tunnel.take_dialled();  // never read from until the sender has met the end of what is buffered
  ASSERT_TRUE(b);
  const auto much = random_bytes(32 << 20, 5);
  auto sending = std::async(std::launch::async, [&] { return a->send(much); });
  EXPECT_EQ(sending.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  EXPECT_LT(tunnel.near->stats().bytes_in, 8u << 20);
  auto reading = std::async(std::launch::async, [&] { return read_to_end(*b); });
  EXPECT_TRUE(sending.get());
  ASSERT_TRUE(a->finish(Deadline::after(seconds(20))));
  EXPECT_TRUE(reading.get() == much);
  EXPECT_EQ(tunnel.near->fabric_stats().placed_bytes_sent, 0u);  // beside the channel, not through it
  EXPECT_EQ(tunnel.near->stats().bytes_in, much.size());
  EXPECT_EQ(tunnel.far->stats().bytes_out, much.size());
}

/// Opens what it says and then does not, or hangs up without a word.
class LyingOpener {
 public:
  LyingOpener() : wire_(Fabric::unix_socket), channel_(std::move(wire_.near)) {
    far_ = std::make_unique<Session>(
        std::move(wire_.far), Options{}, [this] { return dialled_.dial(); }, log_);
    wire_.serve();
    run_ = std::async(std::launch::async, [this] { return far_->run(); });
  }
  ~LyingOpener() { far_->cancel(); }
  void say(const Message& message) { ASSERT_TRUE(channel_->send(encode(message))); }
  SideStreams& sides() { return dynamic_cast<SideStreams&>(*channel_); }
  std::unique_ptr<ByteStream> user() { return dialled_.take(); }
  /// Until the far end says that it is done with a stream; what it said about it before.
  std::vector<MessageType> answers() {
    std::vector<MessageType> types;
    while (types.empty() || types.back() != MessageType::closed) {
      std::array<std::byte, kMessageBytes> buffer{};
      if (!receive_exactly(*channel_, buffer, Deadline::after(seconds(30)))) break;
      types.push_back(decode(buffer)->type);
    }
    return types;
  }

 private:
  NullLog log_;
  Wire wire_;
  std::unique_ptr<Channel> channel_;
  Dialled dialled_{true};
  std::unique_ptr<Session> far_;
  std::future<Result<>> run_;
};

TEST(TunnelSides, EndOnlyWhenTheOtherEndSaysSo) {
  LyingOpener opener;
  opener.say({MessageType::open_beside, 1, 7});
  auto side = opener.sides().open_side(7, Deadline::after(seconds(20)));
  ASSERT_TRUE(side);
  ASSERT_TRUE((*side)->send(as_bytes("half a")));
  auto user = opener.user();
  std::array<std::byte, 6> text{};
  ASSERT_TRUE(receive_exactly(*user, text, Deadline::after(seconds(20))));
  ASSERT_TRUE((*side)->finish(Deadline::after(seconds(20))));
  std::byte more{};
  const auto early = user->receive(std::span(&more, 1), Deadline::after(std::chrono::milliseconds(200)));
  ASSERT_FALSE(early);  // the connection has ended, and the stream has not
  EXPECT_TRUE(early.error().is(errc::timed_out));
  opener.say({MessageType::end, 1, 0});
  const auto ended = user->receive(std::span(&more, 1), Deadline::after(seconds(20)));
  ASSERT_TRUE(ended);
  EXPECT_EQ(*ended, 0u);
}

TEST(TunnelSides, AStreamWhoseConnectionNeverComesIsDroppedWhenTheOpenerGivesUp) {
  LyingOpener opener;
  opener.say({MessageType::open_beside, 1, 7});
  auto user = opener.user();
  opener.say({MessageType::reset, 1, 0});
  EXPECT_TRUE(read_to_end(*user).empty());
  EXPECT_EQ(opener.answers(), std::vector{MessageType::closed});
}

TEST(TunnelSides, AConnectionThatBreaksIsTheStreamsFailure) {
  LyingOpener opener;
  opener.say({MessageType::open_beside, 1, 7});
  auto side = opener.sides().open_side(7, Deadline::after(seconds(20)));
  ASSERT_TRUE(side);
  auto user = opener.user();
  ASSERT_TRUE(user->send(as_bytes("?")));
  std::byte byte{};
  ASSERT_TRUE(receive_exactly(**side, std::span(&byte, 1), Deadline::after(seconds(20))));
  (*side)->cancel();
  (void)user->send(random_bytes(4 << 20, 6));  // into a connection that is gone
  EXPECT_EQ(opener.answers(), (std::vector{MessageType::reset, MessageType::closed}));
}

}  // namespace
}  // namespace ramferry::tunnel
