// SPDX-License-Identifier: MIT
#include "messages.hpp"
#include "tunnel_support.hpp"

#include <array>
#include <condition_variable>
#include <future>
#include <mutex>
#include <vector>

namespace ramferry::tunnel {
namespace {

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

TEST(TunnelRings, DialOnlyWhenTheOpenerIsAnswered) {
  auto pair = test::make_loopback_pair();
  NullLog log;
  std::promise<void> dialled;
  bool too_soon = false;
  Session far(
      std::make_unique<LingeringChannel>(
          std::move(pair.destination), MessageType::opened,
          [&, event = dialled.get_future().share()] { too_soon = happens_soon(event); }),
      {},
      [&]() -> Result<std::unique_ptr<ByteStream>> {
        dialled.set_value();
        return fail(errc::peer_gone, "dialling");
      },
      log);
  auto running = std::async(std::launch::async, [&] { return far.run(); });
  EXPECT_TRUE(pair.source->send(encode({MessageType::open, 1, Options{}.ring_bytes})));
  EXPECT_EQ(hear_until_closed(*pair.source),
            (std::vector{MessageType::opened, MessageType::reset, MessageType::closed}));
  far.cancel();
  running.wait();
  EXPECT_FALSE(too_soon);
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
