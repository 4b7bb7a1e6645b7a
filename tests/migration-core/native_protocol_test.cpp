// SPDX-License-Identifier: MIT
#include "memory_stream.hpp"

#include <ramferry/migration/native_protocol.hpp>
#include <ramferry/migration/section_stream.hpp>

#include <gtest/gtest.h>

namespace ramferry::migration::native {
namespace {

using ramferry::testing::MemoryStream;

TEST(NativeProtocol, ReadsTheMessagesItWrites) {
  MemoryStream stream;
  Hello hello{
      .required = 1, .optional = 6, .session = SessionId::random(), .page_bytes = 16384, .machine = "box"};
  ASSERT_TRUE(send_message(stream, MessageType::hello, encode(hello)));
  ASSERT_TRUE(
      send_message(stream, MessageType::hello_reply, encode(HelloReply{.features = 4, .blank = true})));
  ASSERT_TRUE(send_message(stream, MessageType::commit));
  EXPECT_EQ(stream.sends, 3u) << "a message is one send";

  StreamReader in(stream);
  const auto first = read_message(in);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->type, MessageType::hello);
  const auto again = decode_hello(first->payload);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->required, 1u);
  EXPECT_EQ(again->optional, 6u);
  EXPECT_EQ(again->session, hello.session);
  EXPECT_EQ(again->page_bytes, 16384u);
  EXPECT_EQ(again->machine, "box");
  const auto second = read_message(in);
  ASSERT_TRUE(second);
  const auto reply = decode_hello_reply(second->payload);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->features, 4u);
  EXPECT_TRUE(reply->blank);
  EXPECT_EQ(read_message(in)->type, MessageType::commit);
  EXPECT_TRUE(read_message(in).error().is(errc::peer_gone));
}

TEST(NativeProtocol, IgnoresWhatANewerVersionAdds) {
  auto payload = encode(Hello{.machine = "box"});
  payload.push_back(std::byte{1});
  EXPECT_TRUE(decode_hello(payload));
}

TEST(NativeProtocol, RefusesCutPayloads) {
  const auto hello = encode(Hello{.machine = "box"});
  for (std::size_t length = 0; length < hello.size(); ++length)
    EXPECT_FALSE(decode_hello(ConstBytes(hello).first(length)));
  const auto reply = encode(HelloReply{});
  for (std::size_t length = 0; length < reply.size(); ++length)
    EXPECT_FALSE(decode_hello_reply(ConstBytes(reply).first(length)));
}

TEST(NativeProtocol, RefusesUnknownTypesAndHugeLengthsBeforeAllocating) {
  for (const int type : {0, 8, 255}) {
    MemoryStream stream({std::byte(type), {}, {}, {}, {}});
    StreamReader in(stream);
    const auto result = read_message(in);
    ASSERT_FALSE(result);
    EXPECT_TRUE(result.error().is(errc::protocol_mismatch)) << result.error().message();
  }
  MemoryStream stream({std::byte{5}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}});
  StreamReader in(stream);
  const auto result = read_message(in);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("4294967295"), std::string::npos);
}

TEST(NativeProtocol, TellsWhatTheOtherEndSaysButNoControlCharacters) {
  const Error error = decode_failed(encode_failed("no \x1b[31mdisk\n"), "the destination");
  EXPECT_TRUE(error.is(errc::peer_failed));
  EXPECT_NE(error.message().find("the destination says 'no ?[31mdisk?'"), std::string::npos)
      << error.message();
  EXPECT_NE(decode_failed({}, "the source").message().find("no reason"), std::string::npos);
  EXPECT_LE(encode_failed(std::string(1 << 20, 'x')).size(), 4098u);
}

TEST(NativeProtocol, AHelloIsTakenIfAllItNeedsIsKnown) {
  Hello hello;
  hello.machine = "pc";
  const auto accepted = [&](std::uint64_t known, MessageType type = MessageType::hello) {
    return accept_hello({type, encode(hello)}, known);
  };
  EXPECT_EQ(accepted(0).value().machine, "pc");
  EXPECT_TRUE(accepted(0, MessageType::commit).error().is(errc::protocol_mismatch));
  hello.required = feature::kXbzrle;
  EXPECT_TRUE(accepted(feature::kKnown).has_value());
  EXPECT_TRUE(accepted(feature::kCompression).error().is(errc::unsupported));
  hello.version = kVersion + 1;
  EXPECT_TRUE(accepted(feature::kKnown).error().is(errc::unsupported));
}

TEST(NativeProtocol, TheGuestIsOursAfterCommitAndTheirsAfterFailed) {
  const Result<> said, not_said = fail(errc::peer_gone, "saying it");
  const auto answer = [](MessageType type) {
    return Result<Message>(Message{type, encode_failed("no room")});
  };
  const Result<Message> silence = fail(errc::timed_out, "reading on");
  EXPECT_TRUE(committed(said, answer(MessageType::commit)).has_value());
  for (const auto& sent : {said, not_said}) {
    const auto theirs = committed(sent, answer(MessageType::failed));
    ASSERT_FALSE(theirs.has_value());
    EXPECT_TRUE(theirs.error().is(errc::peer_failed)) << theirs.error().message();
    EXPECT_NE(theirs.error().message().find("no room"), std::string::npos);
    EXPECT_TRUE(committed(sent, silence).error().is(errc::outcome_unknown));
    EXPECT_TRUE(committed(sent, answer(MessageType::running)).error().is(errc::outcome_unknown));
  }
  EXPECT_TRUE(committed(not_said, answer(MessageType::commit)).error().is(errc::outcome_unknown));
}

}  // namespace
}  // namespace ramferry::migration::native
