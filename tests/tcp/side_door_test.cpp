// SPDX-License-Identifier: MIT
// What a listener lets in beside a channel, and what it remembers of it.
#include "../../tcp/src/side_door.hpp"

#include "tcp_support.hpp"

#include <array>
#include <future>

namespace ramferry::tcp::test {
namespace {

/// A connection and its other end.
struct Visitor {
  Visitor() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) std::abort();
    socket.reset(fds[0]);
    peer.reset(fds[1]);
  }
  bool is_hung_up() const {
    std::byte byte{};
    return ::recv(peer.get(), &byte, 1, MSG_DONTWAIT) == 0;
  }
  UniqueFd socket, peer;
};

bool lets_in(SideDoor& door, std::uint32_t number) {
  Visitor visitor;
  return door.put(number, visitor.socket);
}

Deadline now() {
  return Deadline::after(std::chrono::seconds(0));
}

TEST(SideDoor, TakesWhatComesBeforeOrAfterItsAnnouncement) {
  SideDoor door;
  door.admit(1);
  EXPECT_TRUE(lets_in(door, 1));
  ASSERT_TRUE(door.expect(1));
  EXPECT_TRUE(door.take(1, soon()));
  ASSERT_TRUE(door.expect(2));
  auto taking = std::async(std::launch::async, [&] { return door.take(2, soon()); });
  EXPECT_TRUE(lets_in(door, 2));
  EXPECT_TRUE(taking.get());
  EXPECT_EQ(door.remembered(), 0U);
}

TEST(SideDoor, EarlyOnesAreLimitedAndKeepNobodyOut) {
  SideDoor door;
  EXPECT_FALSE(lets_in(door, 1)) << "nobody was admitted";
  door.admit(2);
  ASSERT_TRUE(door.expect(1));
  EXPECT_TRUE(lets_in(door, 2));
  EXPECT_TRUE(lets_in(door, 3));
  EXPECT_FALSE(lets_in(door, 4));
  EXPECT_FALSE(lets_in(door, 3)) << "there already";
  EXPECT_TRUE(lets_in(door, 1)) << "it is expected";
  EXPECT_TRUE(door.take(1, now()));
  ASSERT_TRUE(door.expect(2));
  EXPECT_TRUE(lets_in(door, 4)) << "2 is early no more";
}

TEST(SideDoor, TurnsAwayWhatComesTooLate) {
  SideDoor door;
  door.admit(8);
  ASSERT_TRUE(door.expect(1) && door.expect(2) && door.expect(3));
  door.abandon(1);
  EXPECT_FALSE(lets_in(door, 1));
  const auto abandoned = door.take(1, soon());
  ASSERT_FALSE(abandoned);
  EXPECT_TRUE(abandoned.error().is(errc::cancelled)) << why(abandoned);
  EXPECT_FALSE(lets_in(door, 1));
  const auto missed = door.take(2, now());
  ASSERT_FALSE(missed);
  EXPECT_TRUE(missed.error().is(errc::timed_out)) << why(missed);
  EXPECT_FALSE(lets_in(door, 2));
  EXPECT_TRUE(lets_in(door, 3));
  EXPECT_TRUE(door.take(3, now()));
  EXPECT_FALSE(lets_in(door, 3)) << "a second one";
}

TEST(SideDoor, AbandoningEndsTakingAndClosesWhatIsThere) {
  SideDoor door;
  ASSERT_TRUE(door.expect(1) && door.expect(2));
  Visitor visitor;
  ASSERT_TRUE(door.put(1, visitor.socket));
  door.abandon(1);
  EXPECT_TRUE(visitor.is_hung_up());
  auto taking = std::async(std::launch::async, [&] { return door.take(2, soon()); });
  door.abandon(2);
  const auto taken = taking.get();
  ASSERT_FALSE(taken);
  EXPECT_TRUE(taken.error().is(errc::cancelled)) << why(taken);
}

TEST(SideDoor, NumbersRise) {
  SideDoor door;
  door.admit(8);
  Visitor left_out;
  ASSERT_TRUE(door.put(6, left_out.socket));
  EXPECT_TRUE(lets_in(door, 8));
  EXPECT_FALSE(door.expect(0));
  EXPECT_TRUE(door.expect(7));
  EXPECT_TRUE(left_out.is_hung_up()) << "7 came, so 6 never will";
  EXPECT_FALSE(door.expect(7));
  EXPECT_FALSE(door.expect(6));
  EXPECT_FALSE(lets_in(door, 6));
  EXPECT_TRUE(door.expect(8));
  EXPECT_TRUE(door.take(8, now()));
}

TEST(SideDoor, ForgetsThoseThatFailed) {
  SideDoor door;
  door.admit(8);
  for (std::uint32_t number = 1; number <= 999; ++number) {
    ASSERT_TRUE(door.expect(number));
    switch (number % 4) {  // before it fails
      case 0: EXPECT_TRUE(lets_in(door, number)); break;
      case 1: EXPECT_FALSE(door.take(number, now())); break;
      case 2: EXPECT_FALSE(lets_in(door, number - 1)); break;
      default: break;
    }
    door.abandon(number);
    EXPECT_FALSE(lets_in(door, number));
    if (number % 3 == 0) {
      EXPECT_FALSE(door.take(number, soon()));
    }
  }
  EXPECT_EQ(door.remembered(), 0U);
}

TEST(SideDoor, WhenItCloses) {
  SideDoor door;
  door.admit(8);
  ASSERT_TRUE(door.expect(1));
  Visitor visitor;
  ASSERT_TRUE(door.put(2, visitor.socket));
  auto taking = std::async(std::launch::async, [&] { return door.take(1, soon()); });
  door.close();
  const auto taken = taking.get();
  ASSERT_FALSE(taken);
  EXPECT_TRUE(taken.error().is(errc::cancelled)) << why(taken);
  EXPECT_TRUE(visitor.is_hung_up());
  EXPECT_FALSE(lets_in(door, 1));
  EXPECT_FALSE(lets_in(door, 3));
  EXPECT_TRUE(door.expect(3));
  EXPECT_EQ(door.remembered(), 0U);
}

}  // namespace
}  // namespace ramferry::tcp::test
