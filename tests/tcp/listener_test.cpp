// SPDX-License-Identifier: MIT
#include "../../tcp/src/listener.hpp"

#include "../../tcp/src/multifd_hello.hpp"
#include "tcp_support.hpp"

#include <ramferry/stream_bundle.hpp>

#include <gmock/gmock.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <thread>

namespace ramferry::tcp::test {
namespace {

using ::testing::HasSubstr;

bool is_channel(const Result<Link>& link) {
  return link && link->index() == 0;
}
bool is_stream(const Result<Link>& link) {
  return link && link->index() == 1;
}

class ListenerTest : public TcpTest {
 protected:
  static std::string received(ByteStream& stream, std::size_t size) {
    std::string text(size, '\0');
    const auto outcome = receive_exactly(stream, std::as_writable_bytes(std::span(text)), soon());
    EXPECT_TRUE(outcome.has_value()) << why(outcome);
    return text;
  }
};

TEST_F(ListenerTest, SaysWhichFreePortItGot) {
  const auto listener = listen("tcp:127.0.0.1:0");
  EXPECT_NE(listener->local().port, 0);
  EXPECT_EQ(listener->local().host, "127.0.0.1");
}

/// The barest of installations have no /etc/hosts.
bool resolves(const std::string& host) {
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, nullptr, &found) != 0) return false;
  ::freeaddrinfo(found);
  return true;
}

TEST_F(ListenerTest, WithoutAHostItTakesIPv4AndIPv6) {
  const auto listener = listen("tcp::0?dialect=qemu");
  std::vector<std::string> hosts = {"127.0.0.1", "[::1]"};
  if (resolves("localhost")) hosts.emplace_back("localhost");
  for (const std::string& host : hosts) {
    const auto connected =
        connect("tcp:" + host + ":" + std::to_string(listener->local().port) + "?dialect=qemu");
    EXPECT_TRUE(connected.has_value()) << why(connected);
    EXPECT_TRUE(is_stream(listener->accept(soon()))) << host;
  }
}

TEST_F(ListenerTest, TellsAQemuByItsFirstBytesAndLosesNone) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const RawPeer qemu(listener->local());
  qemu.say(as_bytes("QEV"));
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon()); });
  qemu.say(as_bytes("M and more"));
  const auto link = accepting.get();
  ASSERT_TRUE(is_stream(link)) << why(link);
  EXPECT_EQ(received(bytes_of(*link), 13), "QEVM and more");
  EXPECT_EQ(bytes_of(*link).stats().message_bytes_received, 13U);
  EXPECT_EQ(bytes_of(*link).stats().wire_bytes_received, 13U);
}

TEST_F(ListenerTest, WithDialectQemuItDoesNotWaitForAByte) {
  const auto listener = listen("tcp:127.0.0.1:0?dialect=qemu");
  const RawPeer silent(listener->local());
  const auto link = listener->accept(soon());
  ASSERT_TRUE(is_stream(link)) << why(link);
  ASSERT_TRUE(bytes_of(*link).send(as_bytes("{}")).has_value());
  EXPECT_EQ(silent.hear(2), to_bytes("{}"));
}

TEST_F(ListenerTest, WithDialectNativeAQemuIsTurnedAway) {
  const auto listener = listen("tcp:127.0.0.1:0?dialect=native");
  const RawPeer qemu(listener->local());
  qemu.say(as_bytes("QEVM"));
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(200))).has_value());
  EXPECT_TRUE(qemu.is_hung_up());
  EXPECT_THAT(log_.text(), HasSubstr("dialect=native"));
}

TEST_F(ListenerTest, StrangersAreTurnedAwayAndHoldUpNobody) {
  const auto listener = listen("tcp:127.0.0.1:0");
  std::vector<std::unique_ptr<RawPeer>> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(std::make_unique<RawPeer>(listener->local()));
  const RawPeer web(listener->local()), multifd(listener->local()), half(listener->local());
  web.say(as_bytes("GET / HTTP/1.1\r\n"));
  multifd.say(to_bytes("\x11\x22\x33\x44\x00"));
  half.say(ConstBytes(kMagic).first(5));
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon()); });
  const auto connected = connect(listener->local());
  EXPECT_TRUE(is_channel(connected)) << why(connected);
  EXPECT_TRUE(is_channel(accepting.get()));
  EXPECT_TRUE(web.is_hung_up());
  EXPECT_TRUE(multifd.is_hung_up());
  EXPECT_THAT(log_.text(), HasSubstr("neither ours nor QEMU's"));
  EXPECT_THAT(log_.text(), HasSubstr("multifd"));
}

std::vector<std::byte> multifd_hello(std::uint8_t channel, std::uint8_t uuid = 0) {
  MultifdHello hello{.uuid = {}, .channel = channel};
  hello.uuid.fill(std::byte{uuid});
  std::vector<std::byte> bytes;
  encode_multifd_hello(hello, bytes);
  return bytes;
}

TEST_F(ListenerTest, PutsAQemuAndItsMultifdChannelsTogetherInAnyOrder) {
  for (const std::string dialect : {"auto", "qemu"}) {
    const auto listener = listen("tcp:127.0.0.1:0?channels=2&dialect=" + dialect);
    const RawPeer second(listener->local()), main(listener->local()), first(listener->local());
    second.say(multifd_hello(1));
    second.say(as_bytes("two"));
    main.say(as_bytes("QEVM and more"));
    first.say(multifd_hello(0));
    first.say(as_bytes("one"));
    const auto link = listener->accept(soon());
    ASSERT_TRUE(is_stream(link)) << why(link);
    auto* const bundle = dynamic_cast<StreamBundle*>(&bytes_of(*link));
    ASSERT_NE(bundle, nullptr);
    ASSERT_EQ(bundle->channels(), 2U);
    EXPECT_EQ(received(*bundle, 13), "QEVM and more");
    EXPECT_EQ(received(bundle->channel(0), 3), "one");
    EXPECT_EQ(received(bundle->channel(1), 3), "two");
  }
}

TEST_F(ListenerTest, TurnsAwayMultifdChannelsThatDoNotFitTheOthers) {
  const auto listener = listen("tcp:127.0.0.1:0?channels=2");
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon()); });
  const RawPeer first(listener->local());
  first.say(multifd_hello(0, 7));
  const auto is_refused = [&](const std::vector<std::byte>& hello, const std::string& naming) {
    // The first one must be known, and who does not fit it is told so again and again until it is.
    for (int attempt = 0; attempt < 2000; ++attempt) {
      const RawPeer odd(listener->local());
      odd.say(hello);
      if (odd.is_hung_up() && log_.text().find(naming) != std::string::npos) return true;
    }
    return false;
  };
  EXPECT_TRUE(is_refused(multifd_hello(0, 7), "is there already"));
  EXPECT_TRUE(is_refused(multifd_hello(2, 7), "multifd channel 2"));
  EXPECT_TRUE(is_refused(multifd_hello(1, 8), "another machine"));
  std::vector<std::byte> version = multifd_hello(1, 7);
  version[7] = std::byte{2};
  EXPECT_TRUE(is_refused(version, "version 2"));
  const RawPeer second(listener->local()), main(listener->local());
  second.say(multifd_hello(1, 7));
  main.say(as_bytes("QEVM"));
  EXPECT_TRUE(is_stream(accepting.get()));
}

TEST_F(ListenerTest, SaysHowManyMultifdChannelsCameWhenSomeDoNot) {
  const auto listener = listen("tcp:127.0.0.1:0?channels=3&peer-timeout=1");
  const RawPeer main(listener->local()), first(listener->local());
  main.say(as_bytes("QEVM"));
  first.say(multifd_hello(0));
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon()); });
  EXPECT_TRUE(main.is_hung_up());
  EXPECT_TRUE(first.is_hung_up());
  EXPECT_THAT(log_.text(), HasSubstr("1 of its 3 multifd channels"));
  Endpoint to = listener->local();
  to.options.clear();
  const auto connected = connect(to);  // it goes on listening
  EXPECT_TRUE(connected.has_value()) << why(connected);
  EXPECT_TRUE(is_channel(accepting.get()));
}

TEST_F(ListenerTest, ConnectingWithChannelsIntroducesThemBehindTheMainConnection) {
  const auto listener = listen("tcp:127.0.0.1:0?channels=16");
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon()); });
  Endpoint to = listener->local();
  to.options = {{"dialect", "qemu"}, {"channels", "16"}, {"uuid", "550e8400-e29b-41d4-a716-446655440000"}};
  const auto connected = connect(to);
  ASSERT_TRUE(is_stream(connected)) << why(connected);
  ASSERT_TRUE(bytes_of(*connected).send(as_bytes("QEVM")));
  const auto accepted = accepting.get();
  ASSERT_TRUE(is_stream(accepted)) << why(accepted);
  auto* const there = dynamic_cast<StreamBundle*>(&bytes_of(*accepted));
  auto* const here = dynamic_cast<StreamBundle*>(&bytes_of(*connected));
  ASSERT_TRUE(there != nullptr && here != nullptr);
  for (std::size_t number = 0; number < 16; ++number) {
    const std::string text = "channel " + std::to_string(number);
    ASSERT_TRUE(here->channel(number).send(as_bytes(text)));
    EXPECT_EQ(received(there->channel(number), text.size()), text);
  }
}

TEST_F(ListenerTest, AMultifdHelloThatIsNoneIsRefused) {
  std::vector<std::byte> hello = multifd_hello(3, 9);
  ASSERT_EQ(hello.size(), kMultifdHelloBytes);
  const auto read = decode_multifd_hello(hello);
  ASSERT_TRUE(read.has_value()) << why(read);
  EXPECT_EQ(read->channel, 3);
  EXPECT_EQ(read->uuid.front(), std::byte{9});
  EXPECT_FALSE(decode_multifd_hello(ConstBytes(hello).first(63)).has_value());
  hello[0] = std::byte{0};
  EXPECT_FALSE(decode_multifd_hello(hello).has_value());
}

TEST_F(ListenerTest, ChannelsNeedTheQemuDialectAndAUuidThatIsOne) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const std::string at = "tcp:127.0.0.1:" + std::to_string(listener->local().port);
  for (const std::string options : {"channels=2", "dialect=qemu&channels=17", "dialect=qemu&uuid=12",
                                    "dialect=qemu&uuid=550e8400-e29b-41d4-a716-44665544000g"}) {
    const auto connected = connect(at + "?" + options);
    ASSERT_FALSE(connected.has_value()) << options;
    EXPECT_TRUE(connected.error().is(errc::invalid_argument)) << why(connected);
  }
}

TEST_F(ListenerTest, ASilentStrangerIsDroppedInTime) {
  const auto listener = listen("tcp:127.0.0.1:0?peer-timeout=1");
  const RawPeer silent(listener->local());
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(1500))).has_value());
  EXPECT_TRUE(silent.is_hung_up());
  EXPECT_THAT(log_.text(), HasSubstr("did not say in time"));
}

TEST_F(ListenerTest, TheOldestStrangerMakesRoomForTheNewest) {
  const auto listener = listen("tcp:127.0.0.1:0");
  std::vector<std::unique_ptr<RawPeer>> silent;
  for (std::size_t i = 0; i <= SocketListener::kMostStrangers; ++i)
    silent.push_back(std::make_unique<RawPeer>(listener->local()));
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(300))).has_value());
  EXPECT_TRUE(silent.front()->is_hung_up());
  EXPECT_THAT(log_.text(), HasSubstr("too many wait"));
}

TEST_F(ListenerTest, AcceptTimesOutAndGoesOn) {
  const auto listener = listen("tcp:127.0.0.1:0");
  for (int i = 0; i < 3; ++i) {
    const auto late = listener->accept(Deadline::after(std::chrono::milliseconds(5)));
    ASSERT_FALSE(late.has_value());
    EXPECT_TRUE(late.error().is(errc::timed_out));
  }
  const RawPeer qemu(listener->local());
  qemu.say(as_bytes("QEVM"));
  EXPECT_TRUE(is_stream(listener->accept(soon())));
}

TEST_F(ListenerTest, WhoeverWaitsAlreadyIsTakenThoughTheDeadlinePassed) {
  const auto listener = listen("tcp:127.0.0.1:0?dialect=qemu");
  const RawPeer peer(listener->local());
  Result<Link> link = fail(errc::timed_out, "");
  for (int i = 0; i < 1000 && !link; ++i) link = listener->accept(Deadline::after(std::chrono::seconds(0)));
  EXPECT_TRUE(is_stream(link));
}

TEST_F(ListenerTest, CancelEndsAcceptNowAndLater) {
  const auto listener = listen("tcp:127.0.0.1:0");
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(Deadline::never()); });
  listener->cancel();
  const auto pending = accepting.get();
  ASSERT_FALSE(pending.has_value());
  EXPECT_TRUE(pending.error().is(errc::cancelled));
  const auto later = listener->accept(Deadline::never());
  ASSERT_FALSE(later.has_value());
  EXPECT_TRUE(later.error().is(errc::cancelled));
}

// --- lanes ---

TEST_F(ListenerTest, LanesOfSeveralSessionsMayArriveInAnyOrder) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const SessionId a = SessionId::random(), b = SessionId::random();
  const RawPeer a1(listener->local()), b0(listener->local()), a0(listener->local()), b1(listener->local());
  a1.say_hello(a, 1, 2);
  b0.say_hello(b, 0, 2);
  b1.say_hello(b, 1, 2);
  const auto first = listener->accept(soon());
  ASSERT_TRUE(is_channel(first)) << why(first);
  EXPECT_EQ(std::get<0>(*first)->session(), b);
  a0.say_hello(a, 0, 2);
  const auto second = listener->accept(soon());
  ASSERT_TRUE(is_channel(second)) << why(second);
  EXPECT_EQ(std::get<0>(*second)->session(), a);
  const auto answer = a1.hear_answer();
  ASSERT_TRUE(answer.has_value()) << why(answer);
  EXPECT_EQ(answer->kind, PreambleKind::accepted);
  EXPECT_EQ(answer->lane, 1);
}

TEST_F(ListenerTest, ALaneThatIsThereAlreadyOrDoesNotFitIsRefused) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const SessionId session = SessionId::random();
  const RawPeer first(listener->local()), again(listener->local()), other(listener->local());
  first.say_hello(session, 0, 2);
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(100))).has_value());
  again.say_hello(session, 0, 2);
  other.say_hello(session, 1, 3);
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(100))).has_value());
  const auto refused = again.hear_answer();
  ASSERT_TRUE(refused.has_value()) << why(refused);
  EXPECT_EQ(refused->kind, PreambleKind::refused);
  EXPECT_THAT(refused->reason, HasSubstr("has a lane 0 already"));
  EXPECT_THAT(other.hear_answer().value().reason, HasSubstr("has 2 lanes, not 3"));
  const RawPeer second(listener->local());
  second.say_hello(session, 1, 2);
  EXPECT_TRUE(is_channel(listener->accept(soon()))) << "the session itself is unharmed";
}

TEST_F(ListenerTest, ASourceThatComesAgainReplacesTheRemainsOfItsFirstAttempt) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const SessionId session = SessionId::random();
  {
    const RawPeer first(listener->local());
    first.say_hello(session, 0, 2);
    EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(100))).has_value());
  }
  const RawPeer again(listener->local()), second(listener->local());
  again.say_hello(session, 0, 2);
  second.say_hello(session, 1, 2);
  EXPECT_TRUE(is_channel(listener->accept(soon())));
}

TEST_F(ListenerTest, ASessionWhoseLanesDoNotAllComeIsGivenUp) {
  const auto listener = listen("tcp:127.0.0.1:0?peer-timeout=1");
  const RawPeer only(listener->local());
  only.say_hello(SessionId::random(), 0, 2);
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(1500))).has_value());
  const auto refused = only.hear_answer();
  ASSERT_TRUE(refused.has_value()) << why(refused);
  EXPECT_THAT(refused->reason, HasSubstr("not all lanes"));
}

TEST_F(ListenerTest, AnotherVersionOrFeatureIsRefusedWithItsReason) {
  const auto listener = listen("tcp:127.0.0.1:0");
  std::vector<std::byte> newer, demanding;
  encode_preamble({.session = SessionId::random(), .window = 65536, .peer_timeout_ms = 1000, .reason = {}},
                  newer);
  newer[9] = std::byte{2};
  encode_preamble(
      {.session = SessionId::random(), .required = 8, .window = 65536, .peer_timeout_ms = 1000, .reason = {}},
      demanding);
  const RawPeer from_tomorrow(listener->local()), demander(listener->local());
  from_tomorrow.say(newer);
  demander.say(demanding);
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(200))).has_value());
  EXPECT_THAT(from_tomorrow.hear_answer().value().reason, HasSubstr("speaks version 2"));
  EXPECT_THAT(demander.hear_answer().value().reason, HasSubstr("features that are unknown"));
}

// --- addresses ---

TEST_F(ListenerTest, APortInUseIsSaidSo) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const auto second = transport_->listen(listener->local());
  ASSERT_FALSE(second.has_value());
  EXPECT_TRUE(second.error().is(errc::in_use)) << why(second);
  EXPECT_FALSE(second.error().advice.empty());
}

TEST_F(ListenerTest, AUnixSocketIsRemovedAtTheEndAndTakenOverWhenStale) {
  const std::string path = socket_path("stale");
  {
    // What a killed program leaves behind.
    const UniqueFd left(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(left.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  auto listener = listen("unix:" + path);
  ASSERT_NE(listener, nullptr);
  const auto second = transport_->listen(endpoint("unix:" + path));
  ASSERT_FALSE(second.has_value());
  EXPECT_TRUE(second.error().is(errc::in_use)) << why(second);
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon()); });
  EXPECT_TRUE(is_channel(connect("unix:" + path))) << "the second attempt did no harm";
  EXPECT_TRUE(is_channel(accepting.get()));
  listener.reset();
  struct stat there {};
  EXPECT_NE(::stat(path.c_str(), &there), 0);
}

TEST_F(ListenerTest, AFileThatIsNoSocketOrNotOursIsLeftAlone) {
  const std::string path = socket_path("file");
  std::fclose(std::fopen(path.c_str(), "w"));
  const auto refused = transport_->listen(endpoint("unix:" + path));
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(refused.error().is(errc::in_use)) << why(refused);
  ::unlink(path.c_str());
  auto listener = listen("unix:" + path);
  ::unlink(path.c_str());
  std::fclose(std::fopen(path.c_str(), "w"));  // somebody else's by now
  listener.reset();
  struct stat there {};
  EXPECT_EQ(::stat(path.c_str(), &there), 0);
  ::unlink(path.c_str());
}

TEST_F(ListenerTest, APathTooLongForASocketIsSaidSo) {
  const auto refused = transport_->listen(endpoint("unix:/tmp/" + std::string(200, 'x')));
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(refused.error().is(errc::invalid_argument));
  EXPECT_THAT(refused.error().message(), HasSubstr("at most 107"));
}

TEST_F(ListenerTest, SurvivesRunningOutOfDescriptors) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const RawPeer qemu(listener->local());
  qemu.say(as_bytes("QEVM"));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 3, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(250))).has_value());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(log_.text(), HasSubstr("raise the limit of open files"));
  EXPECT_TRUE(is_stream(listener->accept(soon())));
}

}  // namespace
}  // namespace ramferry::tcp::test
