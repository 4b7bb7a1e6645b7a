// SPDX-License-Identifier: MIT
// Streams beside the channel.
#include "messages.hpp"
#include "tunnel_support.hpp"

#include <ramferry/side_streams.hpp>

#include <array>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <utility>
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
  std::vector<MessageType> answers() { return hear_until_closed(*channel_); }
  /// Opens a stream beside the channel, and gives it up before its connection comes.
  void give_up(std::uint32_t side) {
    say({MessageType::open_beside, 1, side});
    say({MessageType::reset, 1, 0});
    EXPECT_EQ(answers(), std::vector{MessageType::closed});
    say({MessageType::closed, 1, 0});
    EXPECT_TRUE(user());
  }
  /// How the far end's session ended; it is cancelled if it does not.
  Result<> result() {
    if (run_.wait_for(seconds(20)) != std::future_status::ready) far_->cancel();
    return run_.get();
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

std::ptrdiff_t open_files() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

TEST(TunnelSides, AConnectionThatComesTooLateIsClosed) {
  LyingOpener opener;
  opener.give_up(7);
  const auto before = open_files();
  auto late = opener.sides().open_side(7, Deadline::after(seconds(20)));
  ASSERT_TRUE(late);
  std::byte byte{};
  const auto got = (*late)->receive(std::span(&byte, 1), Deadline::after(seconds(20)));
  EXPECT_TRUE(got ? *got == 0 : got.error().is(errc::peer_gone)) << "it is open";
  late->reset();
  EXPECT_EQ(open_files(), before);
}

TEST(TunnelSides, StreamsThatFailedLeaveRoomForOthers) {
  LyingOpener opener;
  std::vector<std::unique_ptr<ByteStream>> late;
  std::uint32_t number = 1;
  for (; number <= 2 * Options{}.most_streams; ++number) {
    opener.give_up(number);
    auto side = opener.sides().open_side(number, Deadline::after(seconds(20)));
    ASSERT_TRUE(side);
    late.push_back(std::move(*side));
  }
  auto side = opener.sides().open_side(number, Deadline::after(seconds(20)));
  ASSERT_TRUE(side);
  opener.say({MessageType::open_beside, 1, number});
  ASSERT_TRUE((*side)->send(as_bytes("room")));
  auto user = opener.user();
  ASSERT_TRUE(user);
  std::array<std::byte, 4> text{};
  EXPECT_TRUE(receive_exactly(*user, text, Deadline::after(seconds(20))));
}

TEST(TunnelSides, ANumberThatWasUsedBeforeIsABreach) {
  LyingOpener opener;
  opener.say({MessageType::open_beside, 1, 7});
  opener.say({MessageType::open_beside, 2, 7});
  const auto result = opener.result();
  ASSERT_FALSE(result);
  EXPECT_TRUE(result.error().is(errc::protocol_mismatch)) << result.error().message();
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

/// The opening end's channel, whose side streams cannot be opened.
class SidelessChannel : public LingeringChannel, public SideStreams {
 public:
  SidelessChannel(std::unique_ptr<Channel> channel, std::function<void()> over_opening,
                  std::function<void()> at_side)
      : LingeringChannel(std::move(channel), MessageType::open_beside, std::move(over_opening)),
        at_side_(std::move(at_side)) {}
  bool offers_sides() const noexcept override { return true; }
  Result<std::unique_ptr<ByteStream>> open_side(std::uint32_t /*number*/, Deadline /*deadline*/) override {
    at_side_();
    return fail(errc::peer_gone, "opening a side stream");
  }
  void admit_sides(std::size_t /*most*/) override {}
  bool expect_side(std::uint32_t /*number*/) override { return false; }
  Result<std::unique_ptr<ByteStream>> take_side(std::uint32_t /*number*/, Deadline /*deadline*/) override {
    return fail(errc::wrong_state, "waiting for a side stream");
  }
  void abandon_side(std::uint32_t /*number*/) noexcept override {}

 private:
  const std::function<void()> at_side_;
};

TEST(TunnelSides, AStreamDoesNothingBeforeItsOpeningIsOnItsWay) {
  auto pair = test::make_loopback_pair();
  NullLog log;
  std::promise<void> side_wanted;
  bool too_soon = false;
  Session near(std::make_unique<SidelessChannel>(
                   std::move(pair.source),
                   [&, wanted = side_wanted.get_future().share()] { too_soon = happens_soon(wanted); },
                   [&] { side_wanted.set_value(); }),
               {}, Dial{}, log);
  auto running = std::async(std::launch::async, [&] { return near.run(); });
  Plain plain = make_plain(true);
  EXPECT_TRUE(near.open(std::move(plain.tunnel)));
  EXPECT_FALSE(too_soon);
  EXPECT_EQ(hear_until_closed(*pair.destination),
            (std::vector{MessageType::open_beside, MessageType::reset, MessageType::closed}));
  near.cancel();
}

TEST(TunnelSides, ASessionCanBeCancelledWhileAnOpeningDoesNotGetThrough) {
  auto pair = test::make_loopback_pair();
  NullLog log;
  std::promise<void> stuck, go_on;
  Session near(std::make_unique<SidelessChannel>(
                   std::move(pair.source),
                   [&] {
                     stuck.set_value();
                     go_on.get_future().wait();
                   },
                   [] {}),
               {}, Dial{}, log);
  auto running = std::async(std::launch::async, [&] { return near.run(); });
  Plain plain = make_plain(true);
  auto opening = std::async(std::launch::async, [&] { return near.open(std::move(plain.tunnel)); });
  stuck.get_future().wait();
  auto cancelling = std::async(std::launch::async, [&] { near.cancel(); });
  EXPECT_EQ(cancelling.wait_for(seconds(20)), std::future_status::ready);
  go_on.set_value();
  EXPECT_FALSE(opening.get());
  EXPECT_TRUE(read_to_end(*plain.user).empty());
}

TEST(TunnelSides, ClientsThatCloseAtOnceDoNotHarmTheOthers) {
  TunnelPair tunnel(Fabric::unix_socket, {.most_streams = 1000});
  auto a = tunnel.open();
  auto b = tunnel.take_dialled();
  ASSERT_TRUE(b);
  for (int client = 0; client < 300; ++client) {
    Plain plain = make_plain(true);
    plain.user.reset();
    ASSERT_TRUE(tunnel.near->open(std::move(plain.tunnel)));
    const auto dialled = tunnel.take_dialled();
    ASSERT_TRUE(dialled);
    EXPECT_TRUE(read_to_end(*dialled).empty());
  }
  ASSERT_TRUE(a->send(as_bytes("still here")));
  ASSERT_TRUE(a->finish(Deadline::after(seconds(20))));
  EXPECT_EQ(read_to_end(*b).size(), 10u);
}

}  // namespace
}  // namespace ramferry::tunnel
