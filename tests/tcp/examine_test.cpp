// SPDX-License-Identifier: MIT
#include "../../tcp/src/examine.hpp"

#include "../support/fake_root.hpp"

#include <ramferry/unique_fd.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

namespace ramferry::tcp {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Verdict = Check::Verdict;

std::vector<Check> way(const std::string& uri) {
  const auto endpoint = Endpoint::parse(uri);
  if (!endpoint) {
    ADD_FAILURE() << endpoint.error().message();
    return {Check{}};
  }
  auto checks = examine_way(SystemFiles(), *endpoint, Deadline::after(5s));
  for (const Check& each : checks) EXPECT_TRUE(each.verdict != Verdict::no || !each.fix.empty()) << each.name;
  return checks;
}

struct LoopbackListener {
  LoopbackListener() : socket(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const plain = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(socket.get(), plain, length), 0);
    EXPECT_EQ(::listen(socket.get(), 4), 0);
    EXPECT_EQ(::getsockname(socket.get(), plain, &length), 0);
    port = std::to_string(ntohs(address.sin_port));
  }
  /// Whether somebody is waiting to be accepted.
  bool was_called() {
    const timeval none{0, 1};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    return static_cast<bool>(UniqueFd(::accept(socket.get(), nullptr, nullptr)));
  }
  UniqueFd socket;
  std::string port;
};

TEST(ExamineTcp, CarriesAByteOverEachKindOfSocket) {
  for (const Check& each : examine_sockets()) {
    if (each.name == "TCP over IPv6") continue;  // not every machine has it
    EXPECT_EQ(each.verdict, Verdict::yes) << each.name << ": " << each.value;
  }
}

TEST(ExamineTcp, NotesSmallBuffersWithTheSettingThatRaisesThem) {
  test::FakeRoot root;
  root.write("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t262144\n");
  root.write("/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n");
  const auto checks = examine_buffers(root.files());
  EXPECT_EQ(checks[0].verdict, Verdict::note);
  EXPECT_EQ(checks[0].fix, "sysctl -w net.ipv4.tcp_wmem=\"4096 16384 16777216\"");
  EXPECT_EQ(checks[1].verdict, Verdict::yes);
  EXPECT_THAT(checks[1].value, HasSubstr("6 MiB"));
}

TEST(ExamineTcp, FindsTheWayToAListener) {
  LoopbackListener listener;
  const auto checks = way("tcp:127.0.0.1:" + listener.port);
  ASSERT_EQ(checks.size(), 3U);
  EXPECT_EQ(checks[1].verdict, Verdict::yes);
  EXPECT_THAT(checks[1].value, AllOf(HasSubstr("from 127.0.0.1"), HasSubstr("on lo, MTU ")));
  EXPECT_EQ(checks[2].verdict, Verdict::yes) << checks[2].value;
  EXPECT_TRUE(listener.was_called());
}

TEST(ExamineTcp, LeavesAQemuAlone) {
  LoopbackListener listener;
  EXPECT_EQ(way("tcp:127.0.0.1:" + listener.port + "?dialect=qemu").back().verdict, Verdict::note);
  EXPECT_FALSE(listener.was_called());
}

TEST(ExamineTcp, SaysThatNobodyListensAndHowToStartADestination) {
  std::string port;
  { port = LoopbackListener().port; }
  const Check connect = way("tcp:127.0.0.1:" + port).back();
  EXPECT_EQ(connect.verdict, Verdict::no);
  EXPECT_THAT(connect.fix, HasSubstr("--incoming tcp:127.0.0.1:" + port));
}

TEST(ExamineTcp, SaysThatANameIsUnknown) {
  const auto checks = way("tcp:no-such-host.invalid:4444");
  ASSERT_EQ(checks.size(), 1U);
  EXPECT_EQ(checks[0].verdict, Verdict::no);
}

TEST(ExamineTcp, TellsWhetherAPortCanBeListenedOn) {
  EXPECT_EQ(way("tcp::0").back().verdict, Verdict::yes);
  LoopbackListener listener;
  const Check taken = way("tcp::" + listener.port).back();
  EXPECT_EQ(taken.verdict, Verdict::no);
  EXPECT_THAT(taken.fix, HasSubstr("another port"));
}

class ExamineUnix : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const {
    return "/tmp/ramferry-examine-" + std::to_string(::getpid()) + name;
  }
  ~ExamineUnix() override { ::unlink(path("").c_str()); }
};

TEST_F(ExamineUnix, FindsAListenerAndNoticesWhenItIsGone) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{.sun_family = AF_UNIX};
  path("").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(socket.get(), 1), 0);
  EXPECT_EQ(way("unix:" + path("")).back().verdict, Verdict::yes);
  socket.reset();
  const Check stale = way("unix:" + path("")).back();
  EXPECT_EQ(stale.verdict, Verdict::no);
  EXPECT_THAT(stale.value, HasSubstr("nobody listens"));
}

TEST_F(ExamineUnix, TellsAMissingSocketFromAnImpossiblePath) {
  EXPECT_THAT(way("unix:" + path("")).back().fix, HasSubstr("--incoming unix:"));
  EXPECT_THAT(way("unix:/no/such/folder/socket").back().fix, HasSubstr("mkdir -p /no/such/folder"));
  EXPECT_THAT(way("unix:/tmp/" + std::string(200, 'x')).back().fix, HasSubstr("shorter"));
  EXPECT_THAT(way("unix:/etc/passwd").back().value, HasSubstr("not a socket"));
}

}  // namespace
}  // namespace ramferry::tcp
