// SPDX-License-Identifier: MIT
#include "../../tcp/src/socket_stream.hpp"
#include "messages.hpp"
#include "support/loopback_channel.hpp"

#include <ramferry/posix_transport.hpp>
#include <ramferry/side_streams.hpp>
#include <ramferry/tcp/transport.hpp>
#include <ramferry/tunnel/tunnel.hpp>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <functional>
#include <future>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace ramferry::tunnel {
namespace {

using std::chrono::seconds;

std::vector<std::byte> random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 draw(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& each : bytes) each = static_cast<std::byte>(draw());
  return bytes;
}

/// A connected pair of plain sockets: one for the tunnel, one for the test, as if it were a QEMU.
struct Plain {
  std::unique_ptr<ByteStream> tunnel, user;
};

/// `bare`: as a socket whose bytes the kernel can pass on.
Plain make_plain(bool bare) {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) std::abort();
  auto user = make_fd_stream(UniqueFd(fds[1]), "user end");
  if (bare) return {std::make_unique<tcp::SocketStream>(UniqueFd(fds[0]), seconds(10)), std::move(user)};
  return {make_fd_stream(UniqueFd(fds[0]), "tunnel end"), std::move(user)};
}

/// What a tunnel is made of. Over sockets its streams go beside the channel.
enum class Fabric : std::uint8_t { loopback, unix_socket, tcp };

/// Two ends of a channel, and what makes their side streams arrive.
class Wire {
 public:
  explicit Wire(Fabric fabric) {
    if (fabric == Fabric::loopback) {
      auto pair = test::make_loopback_pair();
      near = std::move(pair.source);
      far = std::move(pair.destination);
      return;
    }
    char folder[] = "/tmp/ramferry-tunnel-XXXXXX";
    folder_ = ::mkdtemp(folder);
    TransportCatalog catalog;
    catalog.add(make_tcp_transport(log_));
    const std::string at = fabric == Fabric::tcp ? "tcp:127.0.0.1:0" : "unix:" + folder_ + "/fabric";
    listener_ = std::move(*catalog.listen(at));
    auto accepted =
        std::async(std::launch::async, [&] { return listener_->accept(Deadline::after(seconds(20))); });
    near = channel_of(catalog.connect(listener_->local().to_string(), {}, Deadline::after(seconds(20))));
    far = channel_of(accepted.get());
  }
  /// Once both ends have their sessions.
  void serve() {
    if (listener_)
      serving_ = std::async(std::launch::async, [this] { (void)listener_->accept(Deadline::never()); });
  }
  ~Wire() {
    if (listener_) listener_->cancel();
    if (serving_.valid()) serving_.wait();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<Channel> near, far;

 private:
  static std::unique_ptr<Channel> channel_of(Result<Link> link) {
    return std::get<std::unique_ptr<Channel>>(std::move(*link));
  }

  NullLog log_;
  std::string folder_;
  std::unique_ptr<Listener> listener_;
  std::future<void> serving_;
};

std::vector<std::byte> read_to_end(ByteStream& from) {
  std::vector<std::byte> all, piece(100'000);
  while (true) {
    const auto got = from.receive(piece, Deadline::after(seconds(20)));
    if (!got || *got == 0) return all;
    all.insert(all.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(*got));
  }
}

/// Two ends over an in-process channel; what the far end dials waits in `dialled`.
class TunnelPair {
 public:
  explicit TunnelPair(Fabric fabric, Options options = {}, bool dial_fails = false,
                      std::function<void()> before_dial = {})
      : wire_(fabric), bare_(fabric == Fabric::unix_socket) {
    near = std::make_unique<Session>(std::move(wire_.near), options, Dial{}, log_);
    far = std::make_unique<Session>(
        std::move(wire_.far), options,
        [this, dial_fails, before_dial]() -> Result<std::unique_ptr<ByteStream>> {
          if (before_dial) before_dial();
          if (dial_fails) return fail(errc::peer_gone, "dialling");
          Plain plain = make_plain(bare_);
          const std::lock_guard lock(mutex_);
          dialled_.push_back(std::move(plain.user));
          changed_.notify_all();
          return std::move(plain.tunnel);
        },
        log_);
    wire_.serve();
    near_run_ = std::async(std::launch::async, [this] { return near->run(); });
    far_run_ = std::async(std::launch::async, [this] { return far->run(); });
  }
  ~TunnelPair() {
    near->cancel();
    far->cancel();
  }
  std::unique_ptr<ByteStream> open() {
    Plain plain = make_plain(bare_);
    const auto opened = near->open(std::move(plain.tunnel));
    EXPECT_TRUE(opened) << opened.error().message();
    return std::move(plain.user);
  }
  std::unique_ptr<ByteStream> take_dialled() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, seconds(20), [&] { return !dialled_.empty(); })) return nullptr;
    auto stream = std::move(dialled_.front());
    dialled_.erase(dialled_.begin());
    return stream;
  }
  Result<> near_result() { return near_run_.get(); }
  Result<> far_result() { return far_run_.get(); }

 private:
  Wire wire_;
  const bool bare_;
  NullLog log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<ByteStream>> dialled_;

 public:
  std::unique_ptr<Session> near, far;

 private:
  std::future<Result<>> near_run_, far_run_;
};

class Tunnel : public ::testing::TestWithParam<Fabric> {};

TEST_P(Tunnel, CarriesBytesBothWaysAtOnceWithoutCopying) {
  TunnelPair tunnel(GetParam());
  auto a = tunnel.open();
  auto b = tunnel.take_dialled();
  ASSERT_TRUE(b);
  const auto there = random_bytes(9'000'001, 1);
  const auto back = random_bytes(7'654'321, 2);
  auto send = [](ByteStream& to, const std::vector<std::byte>& bytes) {
    EXPECT_TRUE(to.send(bytes));
    EXPECT_TRUE(to.finish(Deadline::after(seconds(20))));
  };
  auto sending_there = std::async(std::launch::async, [&] { send(*a, there); });
  auto sending_back = std::async(std::launch::async, [&] { send(*b, back); });
  auto reading_there = std::async(std::launch::async, [&] { return read_to_end(*b); });
  EXPECT_TRUE(read_to_end(*a) == back);
  EXPECT_TRUE(reading_there.get() == there);
  EXPECT_EQ(tunnel.near->fabric_stats().copied_bytes, 0u);
  EXPECT_EQ(tunnel.far->fabric_stats().copied_bytes, 0u);
}

TEST_P(Tunnel, ClosesOneDirectionAndKeepsTheOther) {
  TunnelPair tunnel(GetParam());
  auto a = tunnel.open();
  auto b = tunnel.take_dialled();
  ASSERT_TRUE(b);
  ASSERT_TRUE(a->send(as_bytes("request")));
  ASSERT_TRUE(a->finish(Deadline::after(seconds(20))));
  EXPECT_EQ(read_to_end(*b).size(), 7u);  // ends although a still listens
  ASSERT_TRUE(b->send(as_bytes("an answer")));
  ASSERT_TRUE(b->finish(Deadline::after(seconds(20))));
  EXPECT_EQ(read_to_end(*a).size(), 9u);
}

TEST(TunnelRings, BuffersAtMostOneRingPerStream) {
  const Options options{.ring_bytes = 64 << 10};
  TunnelPair tunnel(Fabric::loopback, options);
  auto a = tunnel.open();
  auto b = tunnel.take_dialled();  // never read from, so that only its socket's buffer takes bytes
  ASSERT_TRUE(b);
  const auto much = random_bytes(16 << 20, 3);
  auto sending = std::async(std::launch::async, [&] { return a->send(much); });
  EXPECT_EQ(sending.wait_for(std::chrono::milliseconds(300)), std::future_status::timeout);
  const std::uint64_t in = tunnel.near->stats().bytes_in, out = tunnel.far->stats().bytes_out;
  EXPECT_LE(in - out, 2 * options.ring_bytes);
  EXPECT_LT(in, 2u << 20);
  auto reading = std::async(std::launch::async, [&] { return read_to_end(*b); });
  EXPECT_TRUE(sending.get());
  ASSERT_TRUE(a->finish(Deadline::after(seconds(20))));
  EXPECT_TRUE(reading.get() == much);
}

TEST_P(Tunnel, UsesStreamNumbersAgainAndServesManyAtOnce) {
  TunnelPair tunnel(GetParam(), {.ring_bytes = 64 << 10, .most_streams = 8});
  for (std::uint32_t turn = 0; turn < 12; ++turn) {
    std::vector<std::future<void>> users;
    for (std::uint32_t each = 0; each < 8; ++each)
      users.push_back(std::async(std::launch::async, [&, seed = turn * 100 + each] {
        auto a = tunnel.open();
        const auto bytes = random_bytes(100'000 + seed, seed);
        auto sending = std::async(std::launch::async, [&] {
          EXPECT_TRUE(a->send(bytes));
          EXPECT_TRUE(a->finish(Deadline::after(seconds(20))));
        });
        auto b = tunnel.take_dialled();
        ASSERT_TRUE(b);
        const auto got = read_to_end(*b);  // some other user's, perhaps: echo it back
        EXPECT_TRUE(b->send(got));
        EXPECT_TRUE(b->finish(Deadline::after(seconds(20))));
        EXPECT_TRUE(read_to_end(*a) == bytes);
      }));
    for (auto& user : users) user.get();
    ASSERT_TRUE(tunnel.near->wait_until_idle(Deadline::after(seconds(20))));
  }
  EXPECT_EQ(tunnel.near->stats().streams_opened, 96u);
  EXPECT_EQ(tunnel.near->stats().open_now, 0u);
  ASSERT_TRUE(tunnel.near->finish(Deadline::after(seconds(20))));
  EXPECT_TRUE(tunnel.far_result());
}

TEST_P(Tunnel, DialsInTheOrderInWhichStreamsWereOpened) {
  std::mutex mutex;
  std::condition_variable changed;
  int begun = 0;
  // The first one takes its time, and would let a second one pass.
  TunnelPair tunnel(GetParam(), {}, false, [&] {
    std::unique_lock lock(mutex);
    changed.notify_all();
    if (++begun == 1) changed.wait_for(lock, std::chrono::milliseconds(200), [&] { return begun > 1; });
  });
  std::vector<std::unique_ptr<ByteStream>> users;
  for (std::uint8_t number = 0; number < 20; ++number) {
    users.push_back(tunnel.open());
    ASSERT_TRUE(users.back()->send(std::array{std::byte{number}}));
    ASSERT_TRUE(users.back()->finish(Deadline::after(seconds(20))));
  }
  for (std::uint8_t number = 0; number < 20; ++number) {
    const auto dialled = tunnel.take_dialled();
    ASSERT_TRUE(dialled);
    EXPECT_EQ(read_to_end(*dialled), std::vector{std::byte{number}});
  }
}

TEST(TunnelRings, RefusesOneStreamTooMany) {
  TunnelPair tunnel(Fabric::loopback, {.ring_bytes = 64 << 10, .most_streams = 1});
  auto a = tunnel.open();
  const auto refused = tunnel.near->open(make_plain(false).tunnel);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(errc::in_use));
}

TEST_P(Tunnel, ClosesTheOpenersSocketWhenDiallingFails) {
  TunnelPair tunnel(GetParam(), {}, true);
  auto a = tunnel.open();
  EXPECT_TRUE(read_to_end(*a).empty());
  EXPECT_TRUE(tunnel.near->wait_until_idle(Deadline::after(seconds(20))));
  EXPECT_EQ(tunnel.near->stats().streams_failed, 1u);
}

TEST_P(Tunnel, ClosesBothPlainSocketsWhenTheFabricBreaks) {
  TunnelPair tunnel(GetParam());
  auto a = tunnel.open();
  auto b = tunnel.take_dialled();
  ASSERT_TRUE(b);
  tunnel.near->cancel();
  EXPECT_TRUE(read_to_end(*a).empty());
  EXPECT_TRUE(read_to_end(*b).empty());
  EXPECT_FALSE(tunnel.near_result());
  const auto far = tunnel.far_result();
  ASSERT_FALSE(far);
  EXPECT_TRUE(far.error().is(errc::peer_gone)) << far.error().message();
}

TEST_P(Tunnel, DropsOneStreamWhenItsPlainPeerDiesAndKeepsTheOthers) {
  TunnelPair tunnel(GetParam());
  auto a = tunnel.open();
  auto b = tunnel.take_dialled();
  auto c = tunnel.open();
  auto d = tunnel.take_dialled();
  ASSERT_TRUE(b && d);
  b.reset();  // what a sends meets a closed socket
  const auto bytes = random_bytes(4 << 20, 4);
  (void)a->send(bytes);
  EXPECT_TRUE(read_to_end(*a).empty());
  ASSERT_TRUE(c->send(as_bytes("still here")));
  ASSERT_TRUE(c->finish(Deadline::after(seconds(20))));
  EXPECT_EQ(read_to_end(*d).size(), 10u);
}

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
        std::move(wire_.far), Options{},
        [this]() -> Result<std::unique_ptr<ByteStream>> {
          Plain plain = make_plain(true);
          user_.set_value(std::move(plain.user));
          return std::move(plain.tunnel);
        },
        log_);
    wire_.serve();
    run_ = std::async(std::launch::async, [this] { return far_->run(); });
  }
  ~LyingOpener() { far_->cancel(); }
  void say(const Message& message) { ASSERT_TRUE(channel_->send(encode(message))); }
  SideStreams& sides() { return dynamic_cast<SideStreams&>(*channel_); }
  std::unique_ptr<ByteStream> user() { return user_.get_future().get(); }
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
  std::promise<std::unique_ptr<ByteStream>> user_;
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

/// The far end against a peer that lies: `say` sends one hand-made message.
class TunnelLies : public ::testing::TestWithParam<std::pair<const char*, std::vector<Message>>> {};

TEST_P(TunnelLies, EndTheSessionWithAClearError) {
  auto pair = test::make_loopback_pair();
  NullLog log;
  std::vector<std::unique_ptr<ByteStream>> users;
  Session far(
      std::move(pair.destination), {.ring_bytes = 64 << 10, .most_streams = 4},
      [&]() -> Result<std::unique_ptr<ByteStream>> {
        Plain plain = make_plain(false);
        users.push_back(std::move(plain.user));
        return std::move(plain.tunnel);
      },
      log);
  for (const Message& message : GetParam().second) ASSERT_TRUE(pair.source->send(encode(message)));
  const auto result = far.run();
  ASSERT_FALSE(result);
  EXPECT_TRUE(result.error().is(errc::protocol_mismatch) || result.error().is(errc::unsupported))
      << result.error().message();
}

std::string name_of(const ::testing::TestParamInfo<Fabric>& each) {
  if (each.param == Fabric::loopback) return "Loopback";
  return each.param == Fabric::tcp ? "Tcp" : "Unix";
}
INSTANTIATE_TEST_SUITE_P(Over, Tunnel, ::testing::Values(Fabric::loopback, Fabric::unix_socket, Fabric::tcp),
                         name_of);

constexpr std::uint32_t kRing = 64 << 10;
INSTANTIATE_TEST_SUITE_P(
    Each, TunnelLies,
    ::testing::Values(std::pair{"Zero", std::vector{Message{MessageType{0}, 1, 0}}},
                      std::pair{"UnknownType", std::vector{Message{MessageType{99}, 1, 0}}},
                      std::pair{"StreamOutOfRange", std::vector{Message{MessageType::open, 5, kRing}}},
                      std::pair{"StreamZero", std::vector{Message{MessageType::open, 0, kRing}}},
                      std::pair{"OtherRing", std::vector{Message{MessageType::open, 1, kRing * 2}}},
                      std::pair{"BesideNothing", std::vector{Message{MessageType::open_beside, 1, 1}}},
                      std::pair{"NotOpen", std::vector{Message{MessageType::data, 1, 1}}},
                      std::pair{"OpenTwice", std::vector{Message{MessageType::open, 1, kRing},
                                                         Message{MessageType::open, 1, kRing}}},
                      std::pair{"TooMuchData", std::vector{Message{MessageType::open, 1, kRing},
                                                           Message{MessageType::data, 1, kRing + 1}}},
                      std::pair{"CreditForNothing", std::vector{Message{MessageType::open, 1, kRing},
                                                                Message{MessageType::credit, 1, 1}}},
                      std::pair{"EndsTwice", std::vector{Message{MessageType::open, 1, kRing},
                                                         Message{MessageType::end, 1, 0},
                                                         Message{MessageType::end, 1, 0}}},
                      std::pair{"OpenedByOpener", std::vector{Message{MessageType::open, 1, kRing},
                                                              Message{MessageType::opened, 1, 0}}}),
    [](const auto& each) { return each.param.first; });

}  // namespace
}  // namespace ramferry::tunnel
