// SPDX-License-Identifier: MIT
// Peers that stop, die or vanish, in processes and network namespaces of their own; and one that is only
// busy.
#include "../support/landings.hpp"
#include "../support/test_memory.hpp"
#include "tcp_support.hpp"

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <functional>

namespace ramferry::tcp::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

/// A process that runs `body` and then waits to be killed. Made before this one has threads.
class ChildProcess {
 public:
  explicit ChildProcess(const std::function<void()>& body) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::alarm(60);
    body();
    for (;;) ::pause();
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess() {
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  void signal(int number) const { ::kill(pid_, number); }
  pid_t pid() const noexcept { return pid_; }

 private:
  pid_t pid_;
};

std::chrono::milliseconds since(Clock::time_point start) {
  return std::chrono::duration_cast<milliseconds>(Clock::now() - start);
}

constexpr SlotId kSlot{1};
constexpr std::size_t kSlotBytes = std::size_t{64} << 20;

/// Where, and with how many lanes.
struct Way {
  const char* name;
  const char* uri;
  const char* options;
};

class PeerLossTest : public TcpTest, public ::testing::WithParamInterface<Way> {
 protected:
  std::string uri() const {
    const std::string at = GetParam().uri;
    return (at == "unix" ? "unix:" + socket_path("loss") : at) + "?peer-timeout=1";
  }
  /// A channel to another process, which exposes kSlot.
  std::unique_ptr<Channel> channel_to_child() {
    const auto listener = listen(uri());
    child_ = std::make_unique<ChildProcess>([&] {
      auto link = connect(listener->local().to_string() + GetParam().options);
      static ramferry::test::TestMemory memory(kSlotBytes);
      static MemoryLanding landing(memory.bytes(), MemoryLanding::Content::unknown);
      auto* const channel = std::get<0>(*link).release();
      (void)channel->expose(kSlot, landing);
      (void)channel->send(as_bytes("r"));
    });
    auto accepted = listener->accept(soon());
    EXPECT_TRUE(accepted.has_value()) << why(accepted);
    auto channel = std::get<0>(std::move(*accepted));
    std::array<std::byte, 1> ready{};
    EXPECT_TRUE(receive_exactly(*channel, ready, soon()).has_value());
    return channel;
  }
  /// Places until that fails.
  static Result<> place_for_ever(Channel& channel, ConstBytes memory) {
    for (;;) {
      const std::array batch = {Placement{.slot = kSlot, .bytes = memory}};
      RAMFERRY_TRY(channel.place(batch));
    }
  }

  std::unique_ptr<ChildProcess> child_;
};

TEST_P(PeerLossTest, AStoppedPeerIsNoticedByWhoeverWaits) {
  const auto channel = channel_to_child();
  const ramferry::test::TestMemory memory(kSlotBytes);
  std::this_thread::sleep_for(milliseconds(1200));  // longer than the peer timeout: heartbeats keep it alive
  const auto stopped = Clock::now();
  child_->signal(SIGSTOP);
  auto placing = std::async(std::launch::async, [&] { return place_for_ever(*channel, memory.bytes()); });
  std::array<std::byte, 1> into{};
  const auto received = channel->receive(into, soon());
  EXPECT_GE(since(stopped), milliseconds(600)) << "a heartbeat was due just before it stopped";
  EXPECT_LT(since(stopped), seconds(4));
  ASSERT_FALSE(received.has_value());
  EXPECT_TRUE(received.error().is(errc::peer_gone)) << why(received);
  EXPECT_THAT(received.error().message(), HasSubstr("nothing heard from"));
  EXPECT_THAT(received.error().message(), HasSubstr("for 1 s"));
  const auto placed = placing.get();
  EXPECT_TRUE(placed.error().is(errc::peer_gone)) << why(placed);
  EXPECT_LT(since(stopped), seconds(5));
}

TEST_P(PeerLossTest, AKilledPeerIsNoticedAtOnce) {
  const auto channel = channel_to_child();
  const ramferry::test::TestMemory memory(kSlotBytes);
  auto placing = std::async(std::launch::async, [&] { return place_for_ever(*channel, memory.bytes()); });
  while (channel->stats().placed_bytes_sent < kSlotBytes / 2) std::this_thread::yield();
  const auto killed = Clock::now();
  child_->signal(SIGKILL);
  std::array<std::byte, 1> into{};
  const auto received = channel->receive(into, soon());
  ASSERT_FALSE(received.has_value());
  EXPECT_TRUE(received.error().is(errc::peer_gone)) << why(received);
  EXPECT_TRUE(placing.get().error().is(errc::peer_gone));
  EXPECT_LT(since(killed), seconds(3));
}

TEST_P(PeerLossTest, APeerStoppedForLessThanTheTimeoutIsKept) {
  const auto channel = channel_to_child();
  child_->signal(SIGSTOP);
  std::array<std::byte, 1> into{};
  EXPECT_TRUE(channel->receive(into, Deadline::after(milliseconds(300))).error().is(errc::timed_out));
  child_->signal(SIGCONT);
  const auto epoch = channel->fence();
  ASSERT_TRUE(epoch.has_value());
  EXPECT_TRUE(channel->settle(*epoch, soon()).has_value());
}

TEST_P(PeerLossTest, ABusyDestinationIsNotTakenForDead) {
  const auto [source, destination] = channels(uri(), GetParam().options);
  ramferry::test::StoringLanding landing(16U << 20);
  landing.shut();
  ASSERT_TRUE(destination->expose(kSlot, landing).has_value());
  const ramferry::test::TestMemory memory(16U << 20);
  auto placing = std::async(std::launch::async, [&]() -> Result<> {
    const std::array batch = {Placement{.slot = kSlot, .bytes = memory.bytes()}};
    RAMFERRY_TRY(source->place(batch));
    RAMFERRY_TRY_ASSIGN(const Epoch epoch, source->fence());
    return source->settle(epoch, soon());
  });
  landing.wait_until_entered();
  // Nothing lands and nobody receives for much longer than the peer timeout.
  EXPECT_EQ(placing.wait_for(milliseconds(1700)), std::future_status::timeout);
  landing.open();
  const auto outcome = placing.get();
  EXPECT_TRUE(outcome.has_value()) << why(outcome);
}

TEST_P(PeerLossTest, MessagesThatNobodyReceivesDoNotStopHeartbeats) {
  const auto [source, destination] = channels(uri(), GetParam().options);
  const std::vector<std::byte> much(16U << 20);
  auto sending = std::async(std::launch::async, [&, &channel = *source] { return channel.send(much); });
  EXPECT_EQ(sending.wait_for(milliseconds(1700)), std::future_status::timeout);
  std::vector<std::byte> into(much.size());
  EXPECT_TRUE(receive_exactly(*destination, into, soon()).has_value());
  EXPECT_TRUE(sending.get().has_value());
}

INSTANTIATE_TEST_SUITE_P(Tcp, PeerLossTest,
                         ::testing::Values(Way{"tcp_lane1", "tcp:127.0.0.1:0", "&lanes=1"},
                                           Way{"tcp_lanes3", "tcp:127.0.0.1:0", "&lanes=3"},
                                           Way{"unix_lane1", "unix", "&lanes=1"}),
                         [](const auto& each) { return std::string(each.param.name); });

// --- a host that vanishes ---

bool run(const std::string& command) {
  return std::system(command.c_str()) == 0;
}

/// Two hosts in namespaces of their own: this process enters one, its child the other, joined by a pair of
/// links. Everything happens in a process of its own, so that the test program stays where it is.
int vanish(const std::string& dialect) {
  if (::unshare(CLONE_NEWNET) != 0) return 77;
  std::array<int, 2> ready{}, go{};
  if (::pipe(ready.data()) != 0 || ::pipe(go.data()) != 0) return 77;
  NullLog log;
  const auto transport = make_tcp_transport(log);
  const ChildProcess other([&] {
    if (::unshare(CLONE_NEWNET) != 0) std::_Exit(1);
    char byte = 'r';
    if (::write(ready[1], &byte, 1) != 1 || ::read(go[0], &byte, 1) != 1) std::_Exit(1);
    run("ip addr add 10.99.0.2/24 dev v1 && ip link set v1 up");
    auto listener = transport->listen(endpoint("tcp:10.99.0.2:4444?peer-timeout=1&dialect=" + dialect));
    if (!listener || ::write(ready[1], &byte, 1) != 1) std::_Exit(1);
    auto link = (*listener)->accept(Deadline::never());
    if (!link || ::read(go[0], &byte, 1) != 1) std::_Exit(1);
    run("ip link set v1 down");
    for (;;) ::pause();
  });
  char byte = 0;
  if (::read(ready[0], &byte, 1) != 1) return 77;
  if (!run("ip link add v0 type veth peer name v1 && ip link set v1 netns " + std::to_string(other.pid()) +
           " && ip addr add 10.99.0.1/24 dev v0 && ip link set v0 up"))
    return 77;
  if (::write(go[1], "g", 1) != 1 || ::read(ready[0], &byte, 1) != 1) return 2;
  auto link =
      transport->connect(endpoint("tcp:10.99.0.2:4444?peer-timeout=1&dialect=" + dialect), {}, soon());
  if (!link) return 3;
  ByteStream& stream = bytes_of(*link);
  if (!stream.send(as_bytes("hello"))) return 4;
  if (::write(go[1], "g", 1) != 1) return 2;
  const auto start = Clock::now();
  std::vector<std::byte> much(1 << 20);
  Result<> sent;
  while (sent) sent = stream.send(much);  // nobody receives: it blocks at some point
  std::fprintf(stderr, "after %lld ms: %s\n", static_cast<long long>(since(start).count()),
               why(sent).c_str());
  if (!sent.error().is(errc::peer_gone)) return 5;
  return since(start) < seconds(12) ? 0 : 6;
}

TEST(VanishedHost, IsNoticedInBoundedTime) {
  if (::geteuid() != 0 || !run("ip -V >/dev/null 2>&1"))
    GTEST_SKIP() << "needs root and ip(8) for network namespaces; run the tests as root, install iproute2";
  for (const std::string dialect : {"native", "qemu"}) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::alarm(60);
      std::_Exit(vanish(dialect));
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    if (WEXITSTATUS(status) == 77)
      GTEST_SKIP() << "this machine gives no network namespaces or links between them";
    EXPECT_EQ(WEXITSTATUS(status), 0) << dialect;
  }
}

}  // namespace
}  // namespace ramferry::tcp::test
