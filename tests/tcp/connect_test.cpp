// SPDX-License-Identifier: MIT
#include "tcp_support.hpp"

#include <gmock/gmock.h>

namespace ramferry::tcp::test {
namespace {

using ::testing::HasSubstr;

class ConnectTest : public TcpTest {
 protected:
  Error failure_of(const std::string& uri, Deadline deadline = soon()) {
    auto outcome = transport_->connect(endpoint(uri), {}, deadline);
    EXPECT_FALSE(outcome.has_value());
    return outcome ? Error{} : outcome.error();
  }
};

TEST_F(ConnectTest, WhereNobodyListensItAdvisesToStartTheDestination) {
  std::string uri;
  {
    const auto listener = listen("tcp:127.0.0.1:0");
    uri = listener->local().to_string();
  }
  for (const std::string& each : {uri, uri + "?lanes=4", uri + "?dialect=qemu"}) {
    const Error error = failure_of(each);
    EXPECT_TRUE(error.is(errc::peer_gone)) << error.message();
    EXPECT_THAT(error.message(), HasSubstr("start the destination first"));
    EXPECT_THAT(error.message(), HasSubstr(uri));
  }
  const Error error = failure_of("unix:/nowhere/at/all");
  EXPECT_TRUE(error.is(errc::not_found)) << error.message();
  EXPECT_THAT(error.message(), HasSubstr("start the destination first"));
}

TEST_F(ConnectTest, AHostWithoutAnAddressIsNotFound) {
  const Error error = failure_of("tcp:no-such-host.invalid:4444");
  EXPECT_TRUE(error.is(errc::not_found)) << error.message();
  EXPECT_THAT(error.message(), HasSubstr("no-such-host.invalid"));
}

TEST_F(ConnectTest, ADestinationThatDoesNotAnswerTimesOut) {
  const auto listener = listen("tcp:127.0.0.1:0");  // nobody accepts
  const Error by_deadline =
      failure_of(listener->local().to_string(), Deadline::after(std::chrono::milliseconds(100)));
  EXPECT_TRUE(by_deadline.is(errc::timed_out)) << by_deadline.message();
  const Error by_option = failure_of(listener->local().to_string() + "?connect-timeout=1", Deadline::never());
  EXPECT_TRUE(by_option.is(errc::timed_out)) << by_option.message();
}

TEST_F(ConnectTest, APeerThatHangsUpMayBeAQemu) {
  const auto listener = listen("tcp:127.0.0.1:0?dialect=qemu");
  auto hanging_up = std::async(std::launch::async, [&] {
    auto link = listener->accept(soon());
    std::array<std::byte, 4> magic{};
    if (link) (void)receive_exactly(bytes_of(*link), magic, soon());
  });
  const Error error = failure_of(
      listener->local().host.empty() ? "" : "tcp:127.0.0.1:" + std::to_string(listener->local().port));
  EXPECT_TRUE(error.is(errc::peer_gone)) << error.message();
  EXPECT_THAT(error.message(), HasSubstr("dialect=qemu"));
}

TEST_F(ConnectTest, APeerOfAnotherKindIsAMismatch) {
  const auto listener = listen("tcp:127.0.0.1:0?dialect=qemu");
  auto speaking = std::async(std::launch::async, [&] {
    auto link = listener->accept(soon());
    if (link) (void)bytes_of(*link).send(as_bytes("{\"QMP\": {\"version\": {}}}\r\n"));
    return link;
  });
  const Error error = failure_of("tcp:127.0.0.1:" + std::to_string(listener->local().port));
  EXPECT_TRUE(error.is(errc::protocol_mismatch)) << error.message();
}

TEST_F(ConnectTest, ARefusalIsToldWithItsReason) {
  const auto listener = listen("tcp:127.0.0.1:0");
  const SessionId session = SessionId::random();
  const RawPeer first(listener->local());
  first.say_hello(session, 0, 2);
  EXPECT_FALSE(listener->accept(Deadline::after(std::chrono::milliseconds(100))).has_value());
  auto accepting = std::async(std::launch::async,
                              [&] { return listener->accept(Deadline::after(std::chrono::seconds(1))); });
  const auto refused = transport_->connect(listener->local(), session, soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_TRUE(refused.error().is(errc::peer_failed)) << why(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("has 2 lanes, not 1"));
}

TEST_F(ConnectTest, OptionsOutOfRangeAreSaidSo) {
  for (const std::string option :
       {"lanes=0", "lanes=65", "peer-timeout=0", "dialect=french", "buffer=x", "buffer=8G"}) {
    const Error error = failure_of("tcp:127.0.0.1:1?" + option);
    EXPECT_TRUE(error.is(errc::invalid_argument)) << option << ": " << error.message();
  }
  EXPECT_THAT(failure_of("tcp:127.0.0.1:1?dialect=qemu&lanes=2").message(),
              HasSubstr("lanes need dialect=native"));
}

TEST_F(ConnectTest, FactsTellLanesAddressesAndBuffers) {
  const auto [source, destination] = channels("tcp:127.0.0.1:0", "?lanes=3&buffer=256K");
  std::map<std::string, std::string> facts;
  for (const auto& [name, value] : source->facts()) facts[name] = value;
  EXPECT_EQ(facts["lanes"], "3");
  EXPECT_THAT(facts["remote"], HasSubstr("127.0.0.1:"));
  EXPECT_EQ(facts["send-buffer"], "524288") << "Linux doubles it for its bookkeeping";
  EXPECT_FALSE(facts["receive-buffer"].empty());
  EXPECT_EQ(destination->session(), source->session());
}

}  // namespace
}  // namespace ramferry::tcp::test
