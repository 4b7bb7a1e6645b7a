// SPDX-License-Identifier: MIT
// What a client of the monitor sees. The texts and classes are those of a QEMU 7.2.
#include "support/link_queue.hpp"
#include "support/socket_pair.hpp"

#include <ramferry/migration/qmp_server.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <future>

namespace ramferry::migration {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Client {
 public:
  explicit Client(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}

  void say(std::string_view text) { ASSERT_TRUE(stream_->send(as_bytes(text))); }
  /// The next line; null once the server hung up.
  json hear() {
    while (text_.find('\n') == std::string::npos) {
      std::array<std::byte, 4096> buffer;
      const auto got = stream_->receive(buffer, Deadline::after(std::chrono::seconds(20)));
      if (!got || *got == 0) return nullptr;
      text_.append(reinterpret_cast<const char*>(buffer.data()), *got);
    }
    const auto end = text_.find('\n');
    const json line = json::parse(text_.substr(0, end));
    text_.erase(0, end + 1);
    return line;
  }
  json ask(std::string_view text) {
    say(text);
    return hear();
  }
  ByteStream& stream() { return *stream_; }

 private:
  std::unique_ptr<ByteStream> stream_;
  std::string text_;
};

class QmpServerTest : public testing::Test {
 protected:
  QmpServerTest() {
    table_.add({.name = "echo",
                .arguments = {{"text", QmpType::string}, {"twice", QmpType::boolean, true}},
                .run = [](const json& given) -> QmpResult { return given; }});
    table_.add({.name = "break", .run = [](const json&) -> QmpResult { return qmp_fail("broken"); }});
  }
  void serve(QmpSettings settings = {}) {
    connections_ = std::make_shared<test::LinkQueue>();
    server_ = std::make_unique<QmpServer>(std::make_unique<test::QueueListener>(connections_), table_,
                                          settings, log_);
  }
  /// Connected, greeted, not negotiated.
  Client connect() {
    if (!server_) serve();
    auto [ours, theirs] = test::make_socket_pair();
    connections_->push(std::move(theirs));
    Client client(std::move(ours));
    greeting_ = client.hear();
    return client;
  }
  Client negotiated() {
    Client client = connect();
    EXPECT_EQ(client.ask(R"({"execute":"qmp_capabilities"})"), R"({"return":{}})"_json);
    return client;
  }
  static std::string error_of(const json& reply) {
    return reply.contains("error")
               ? reply["error"]["class"].get<std::string>() + ": " + reply["error"]["desc"].get<std::string>()
               : reply.dump();
  }

  NullLog log_;
  QmpCommandTable table_;
  json greeting_;
  std::shared_ptr<test::LinkQueue> connections_;
  std::unique_ptr<QmpServer> server_;
};

TEST_F(QmpServerTest, GreetsWithVersionAndCapabilities) {
  connect();
  EXPECT_EQ(
      greeting_,
      R"({"QMP":{"version":{"qemu":{"major":7,"minor":2,"micro":0},"package":"ramferry"},"capabilities":[]}})"_json);
}

TEST_F(QmpServerTest, NothingRunsBeforeNegotiation) {
  Client client = connect();
  const std::string refusal = "CommandNotFound: Expecting capabilities negotiation with 'qmp_capabilities'";
  EXPECT_EQ(error_of(client.ask(R"({"execute":"echo","arguments":{"text":"x"}})")), refusal);
  EXPECT_EQ(error_of(client.ask(R"({"execute":"nosuch"})")), refusal);
}

TEST_F(QmpServerTest, NegotiatesOnce) {
  Client client = connect();
  EXPECT_THAT(error_of(client.ask(R"({"execute":"qmp_capabilities","arguments":{"enable":["bogus"]}})")),
              HasSubstr("does not accept value 'bogus'"));
  EXPECT_EQ(client.ask(R"({"execute":"qmp_capabilities","id":[1,{"a":2}]})"),
            R"({"return":{},"id":[1,{"a":2}]})"_json);
  EXPECT_EQ(error_of(client.ask(R"({"execute":"qmp_capabilities"})")),
            "CommandNotFound: Capabilities negotiation is already complete, command ignored");
}

TEST_F(QmpServerTest, AnyFramingIsUnderstood) {
  Client client = negotiated();
  client.say("  \n{\"execute\":\n\t\"echo\", \"arg");
  client.say("uments\": {\"text\": \"a } \\\" {\"}}{\"execute\":\"echo\",\"arguments\":{\"text\":\"b\"}}");
  EXPECT_EQ(client.hear(), R"({"return":{"text":"a } \" {"}})"_json);
  EXPECT_EQ(client.hear(), R"({"return":{"text":"b"}})"_json);
}

struct Bad {
  const char* request;
  const char* error;
};
class BadRequests : public QmpServerTest, public testing::WithParamInterface<Bad> {};

TEST_P(BadRequests, GetOneErrorAndTheSessionGoesOn) {
  Client client = negotiated();
  EXPECT_THAT(error_of(client.ask(GetParam().request)), HasSubstr(GetParam().error));
  EXPECT_EQ(client.ask(R"({"execute":"echo","arguments":{"text":"on"}})"),
            R"({"return":{"text":"on"}})"_json);
}
INSTANTIATE_TEST_SUITE_P(
    All, BadRequests,
    testing::Values(
        Bad{R"({"execute":"nosuch","id":"x"})", "CommandNotFound: The command nosuch has not been found"},
        Bad{R"({"execute":"echo"})", "GenericError: Parameter 'text' is missing"},
        Bad{R"({"execute":"echo","arguments":{"text":5}})",
            "GenericError: Invalid parameter type for 'text', expected: string"},
        Bad{R"({"execute":"echo","arguments":{"text":"","twice":1}})",
            "Invalid parameter type for 'twice', expected: boolean"},
        Bad{R"({"execute":"echo","arguments":{"text":"","more":1}})",
            "GenericError: Parameter 'more' is unexpected"},
        Bad{R"({"execute":"break"})", "GenericError: broken"},
        Bad{R"({"execute":5})", "GenericError: QMP input member 'execute' must be a string"},
        Bad{R"({"foo":1})", "QMP input member 'foo' is unexpected"},
        Bad{R"({"id":1})", "QMP input lacks member 'execute'"},
        Bad{R"({"execute":"echo","arguments":[]})", "QMP input member 'arguments' must be an object"},
        Bad{"[]", "QMP input must be a JSON object"}, Bad{"5 ", "QMP input must be a JSON object"},
        Bad{"\"abc\"", "QMP input must be a JSON object"},
        Bad{"xyz\n", "GenericError: JSON parse error, invalid"},
        Bad{"{]", "JSON parse error, expecting value"}, Bad{"}", "JSON parse error, expecting value"},
        Bad{R"({"execute":"echo","execute":"break"})", "JSON parse error, duplicate key"},
        Bad{R"({"execute":1e999})", "JSON parse error"},
        Bad{"{\"execute\":\"ec\n", "JSON parse error, stray"},
        Bad{"{\"half\": [1, 2\xff", "JSON parse error, stray"}, Bad{"\x01", "JSON parse error, stray"},
        Bad{"{\"execute\":\"\xc3\x28\"}", "JSON parse error"}));

TEST_F(QmpServerTest, NestingIsBounded) {
  Client client = negotiated();
  EXPECT_THAT(error_of(client.ask(std::string(1025, '['))), HasSubstr("nesting depth limit"));
  EXPECT_EQ(client.ask(R"({"execute":"echo","arguments":{"text":"on"}})"),
            R"({"return":{"text":"on"}})"_json);
}

TEST_F(QmpServerTest, DeepestAllowedIdIsEchoed) {
  Client client = negotiated();
  const std::string id = std::string(1000, '[') + std::string(1000, ']');
  EXPECT_EQ(client.ask("{\"execute\":\"break\",\"id\":" + id + "}")["id"].dump(), id);
}

TEST_F(QmpServerTest, EndlessRequestEndsTheSession) {
  Client client = negotiated();
  std::string endless(2 << 20, 'x');
  endless[0] = '"';
  (void)client.stream().send(as_bytes(endless));  // it may hang up meanwhile
  EXPECT_THAT(error_of(client.hear()), HasSubstr("size limit exceeded"));
  EXPECT_EQ(client.hear(), nullptr);
}

TEST_F(QmpServerTest, EventsReachEveryClientThatHasNegotiated) {
  Client shy = connect(), one = negotiated(), two = negotiated();
  server_->emit("STOP", nullptr);
  server_->emit("MIGRATION", {{"status", "active"}});
  for (Client* client : {&one, &two}) {
    const json stop = client->hear();
    EXPECT_EQ(stop["event"], "STOP");
    EXPECT_FALSE(stop.contains("data"));
    EXPECT_GT(stop["timestamp"]["seconds"], 1'600'000'000);
    EXPECT_LT(stop["timestamp"]["microseconds"], 1'000'000);
    EXPECT_EQ(client->hear()["data"], R"({"status":"active"})"_json);
  }
  EXPECT_EQ(shy.ask(R"({"execute":"qmp_capabilities"})"), R"({"return":{}})"_json);
}

TEST_F(QmpServerTest, ClientThatNeverReadsIsDisconnectedAndHarmsNobody) {
  serve({.most_queued_bytes = 1 << 16});
  Client lazy = negotiated(), busy = negotiated();
  const std::string big(1 << 12, 'x');
  for (int i = 0; i < 400; ++i) {
    server_->emit("NOISE", {{"text", big}});
    EXPECT_EQ(busy.hear()["event"], "NOISE");
  }
  int heard = 0;
  while (!lazy.hear().is_null()) ++heard;
  EXPECT_LT(heard, 400);
}

TEST_F(QmpServerTest, FloodOfConnectionsLeavesTheFirstClientServed) {
  serve({.most_clients = 2});
  Client one = negotiated();
  for (int i = 0; i < 300; ++i) connect();  // each leaves at once, or is turned away
  EXPECT_EQ(one.ask(R"({"execute":"echo","arguments":{"text":"on"}})"), R"({"return":{"text":"on"}})"_json);
}

TEST_F(QmpServerTest, ClientsAreBounded) {
  serve({.most_clients = 2});
  Client one = connect(), two = connect(), three = connect();
  EXPECT_NE(one.ask(R"({"execute":"qmp_capabilities"})"), nullptr);
  EXPECT_TRUE(greeting_.is_null()) << "the third was turned away";
}

TEST_F(QmpServerTest, AnswerUnderWayIsDeliveredBeforeTheServerGoes) {
  for (int i = 0; i < 50; ++i) {
    std::promise<void> entered;
    table_.add({.name = "quit", .run = [&entered](const json&) -> QmpResult {
                  entered.set_value();
                  return json::object();
                }});
    serve();
    Client client = negotiated();
    client.say(R"({"execute":"quit"})");
    entered.get_future().wait();
    server_.reset();
    EXPECT_EQ(client.hear(), R"({"return":{}})"_json);
    EXPECT_EQ(client.hear(), nullptr);
  }
}

TEST_F(QmpServerTest, HalfClosedClientStillGetsItsAnswer) {
  Client client = negotiated();
  client.say(R"({"execute":"break"})");
  ASSERT_TRUE(client.stream().finish(Deadline::never()));
  EXPECT_EQ(error_of(client.hear()), "GenericError: broken");
}

}  // namespace
}  // namespace ramferry::migration
