// SPDX-License-Identifier: MIT
#include "messages.hpp"
#include "support/loopback_channel.hpp"

#include <ramferry/posix_transport.hpp>
#include <ramferry/tunnel/tunnel.hpp>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
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

Plain make_plain() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) std::abort();
  return {make_fd_stream(UniqueFd(fds[0]), "tunnel end"), make_fd_stream(UniqueFd(fds[1]), "user end")};
}

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
  explicit TunnelPair(Options options = {}, bool dial_fails = false, std::function<void()> before_dial = {}) {
    auto pair = test::make_loopback_pair();
    near = std::make_unique<Session>(std::move(pair.source), options, Dial{}, log_);
    far = std::make_unique<Session>(
        std::move(pair.destination), options,
        [this, dial_fails, before_dial]() -> Result<std::unique_ptr<ByteStream>> {
          if (before_dial) before_dial();
          if (dial_fails) return fail(errc::peer_gone, "dialling");
          Plain plain = make_plain();
          const std::lock_guard lock(mutex_);
          dialled_.push_back(std::move(plain.user));
          changed_.notify_all();
          return std::move(plain.tunnel);
        },
        log_);
    near_run_ = std::async(std::launch::async, [this] { return near->run(); });
    far_run_ = std::async(std::launch::async, [this] { return far->run(); });
  }
  ~TunnelPair() {
    near->cancel();
    far->cancel();
  }
  std::unique_ptr<ByteStream> open() {
    Plain plain = make_plain();
    EXPECT_TRUE(near->open(std::move(plain.tunnel)));
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
  NullLog log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<ByteStream>> dialled_;

 public:
  std::unique_ptr<Session> near, far;

 private:
  std::future<Result<>> near_run_, far_run_;
};

TEST(Tunnel, CarriesBytesBothWaysAtOnceWithoutCopying) {
  TunnelPair tunnel;
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

TEST(Tunnel, ClosesOneDirectionAndKeepsTheOther) {
  TunnelPair tunnel;
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

TEST(Tunnel, BuffersAtMostOneRingPerStream) {
  const Options options{.ring_bytes = 64 << 10};
  TunnelPair tunnel(options);
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

TEST(Tunnel, UsesStreamNumbersAgainAndServesManyAtOnce) {
  TunnelPair tunnel({.ring_bytes = 64 << 10, .most_streams = 8});
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

TEST(Tunnel, DialsInTheOrderInWhichStreamsWereOpened) {
  std::mutex mutex;
  std::condition_variable changed;
  int begun = 0;
  // The first one takes its time, and would let a second one pass.
  TunnelPair tunnel({}, false, [&] {
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

TEST(Tunnel, RefusesOneStreamTooMany) {
  TunnelPair tunnel({.ring_bytes = 64 << 10, .most_streams = 1});
  auto a = tunnel.open();
  const auto refused = tunnel.near->open(make_plain().tunnel);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(errc::in_use));
}

TEST(Tunnel, ClosesTheOpenersSocketWhenDiallingFails) {
  TunnelPair tunnel({}, true);
  auto a = tunnel.open();
  EXPECT_TRUE(read_to_end(*a).empty());
  EXPECT_TRUE(tunnel.near->wait_until_idle(Deadline::after(seconds(20))));
  EXPECT_EQ(tunnel.near->stats().streams_failed, 1u);
}

TEST(Tunnel, ClosesBothPlainSocketsWhenTheFabricBreaks) {
  TunnelPair tunnel;
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

TEST(Tunnel, DropsOneStreamWhenItsPlainPeerDiesAndKeepsTheOthers) {
  TunnelPair tunnel;
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

/// The far end against a peer that lies: `say` sends one hand-made message.
class TunnelLies : public ::testing::TestWithParam<std::pair<const char*, std::vector<Message>>> {};

TEST_P(TunnelLies, EndTheSessionWithAClearError) {
  auto pair = test::make_loopback_pair();
  NullLog log;
  std::vector<std::unique_ptr<ByteStream>> users;
  Session far(
      std::move(pair.destination), {.ring_bytes = 64 << 10, .most_streams = 4},
      [&]() -> Result<std::unique_ptr<ByteStream>> {
        Plain plain = make_plain();
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

constexpr std::uint32_t kRing = 64 << 10;
INSTANTIATE_TEST_SUITE_P(
    Each, TunnelLies,
    ::testing::Values(std::pair{"Zero", std::vector{Message{MessageType{0}, 1, 0}}},
                      std::pair{"UnknownType", std::vector{Message{MessageType{99}, 1, 0}}},
                      std::pair{"StreamOutOfRange", std::vector{Message{MessageType::open, 5, kRing}}},
                      std::pair{"StreamZero", std::vector{Message{MessageType::open, 0, kRing}}},
                      std::pair{"OtherRing", std::vector{Message{MessageType::open, 1, kRing * 2}}},
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
