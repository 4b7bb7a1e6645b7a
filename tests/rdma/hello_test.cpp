// SPDX-License-Identifier: MIT
#include "hello.hpp"

#include <gmock/gmock.h>

namespace ramferry::rdma {
namespace {

Hello a_hello() {
  return {.kind = Hello::Kind::lane,
          .lanes = 4,
          .lane = 3,
          .pin_all = true,
          .session = SessionId::random(),
          .token = 0x1122334455667788,
          .peer_timeout_ms = 10000,
          .receives = 64};
}

TEST(Hello, IsReadAsItWasWritten) {
  const Hello hello = a_hello();
  std::vector<std::byte> bytes = encode(hello);
  EXPECT_EQ(bytes.size(), kMostHelloBytes);
  bytes.resize(196);  // the connection manager pads
  const auto read = decode_hello(bytes);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->kind, hello.kind);
  EXPECT_EQ(read->lanes, 4);
  EXPECT_EQ(read->lane, 3);
  EXPECT_TRUE(read->pin_all);
  EXPECT_EQ(read->session, hello.session);
  EXPECT_EQ(read->token, hello.token);
  EXPECT_EQ(read->peer_timeout_ms, 10000U);
  EXPECT_EQ(read->receives, 64);
}

TEST(Hello, BeginsWithWhatAStockQemuReads) {
  const std::vector<std::byte> bytes = encode(a_hello());
  WireReader reader(bytes);
  EXPECT_EQ(reader.u32(), 1U) << "its version";
  EXPECT_EQ(reader.u32(), 1U) << "its flags: pin-all";
}

TEST(Hello, RecognisesAStockQemu) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u32(1).u32(0).zeros(48);
  for (const std::size_t size : {std::size_t{8}, bytes.size()}) {
    const auto read = decode_hello(ConstBytes(bytes).first(size));
    ASSERT_FALSE(read);
    EXPECT_TRUE(read.error().is(errc::unsupported)) << read.error().message();
    EXPECT_THAT(read.error().message(), ::testing::HasSubstr("QEMU"));
  }
}

TEST(Hello, RefusesStrangers) {
  EXPECT_TRUE(decode_hello({}).error().is(errc::protocol_mismatch));
  EXPECT_TRUE(decode_hello(as_bytes("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"))
                  .error()
                  .is(errc::protocol_mismatch));
  const std::vector<std::byte> bytes = encode(a_hello());
  for (std::size_t size = 0; size < 50; ++size)
    EXPECT_FALSE(decode_hello(ConstBytes(bytes).first(size))) << size;
}

TEST(Hello, RefusesFieldsOutOfRange) {
  std::vector<Hello> bad(8, a_hello());
  bad[0].kind = static_cast<Hello::Kind>(9);
  bad[1].lanes = 0;
  bad[2].lanes = 65;
  bad[3].lane = 4;
  bad[4].receives = 0;
  bad[5].session = {};
  bad[6].peer_timeout_ms = 999;
  bad[7].peer_timeout_ms = 3'600'001;
  for (const Hello& each : bad) EXPECT_FALSE(decode_hello(encode(each)));
}

TEST(Hello, RefusesAnotherVersionAndUnknownRequiredFeatures) {
  std::vector<std::byte> newer = encode(a_hello());
  newer[12] = std::byte{2};
  EXPECT_TRUE(decode_hello(newer).error().is(errc::unsupported));
  std::vector<std::byte> demanding = encode(a_hello());
  demanding[43] = std::byte{1};  // the lowest bit of the required features
  const auto read = decode_hello(demanding);
  ASSERT_FALSE(read);
  EXPECT_TRUE(read.error().is(errc::unsupported)) << read.error().message();
}

TEST(Answer, IsReadAsItWasWritten) {
  const auto read = decode_answer(encode(Answer{.token = 42, .peer_timeout_ms = 1000, .receives = 9}));
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(read->token, 42U);
  EXPECT_EQ(read->peer_timeout_ms, 1000U);
  EXPECT_EQ(read->receives, 9);
}

TEST(Answer, RefusesFieldsOutOfRange) {
  EXPECT_FALSE(decode_answer(encode(Answer{.peer_timeout_ms = 3, .receives = 9})));
  EXPECT_FALSE(decode_answer(encode(Answer{.peer_timeout_ms = 3'600'001, .receives = 9})));
  EXPECT_FALSE(decode_answer(encode(Answer{.peer_timeout_ms = 1000, .receives = 7})));
}

TEST(Answer, ARefusalHasANextStep) {
  for (int verdict = 2; verdict <= 5; ++verdict) {
    const auto read = decode_answer(encode(Answer{.verdict = static_cast<Answer::Verdict>(verdict)}));
    ASSERT_FALSE(read);
    EXPECT_FALSE(read.error().advice.empty()) << read.error().message();
  }
}

TEST(Answer, ARefusalIsAnErrorThatSaysWhy) {
  EXPECT_TRUE(decode_answer(encode(Answer{.verdict = Answer::Verdict::overloaded})).error().is(errc::in_use));
  EXPECT_TRUE(
      decode_answer(encode(Answer{.verdict = Answer::Verdict::unsupported})).error().is(errc::unsupported));
  EXPECT_TRUE(
      decode_answer(encode(Answer{.verdict = Answer::Verdict::malformed})).error().is(errc::peer_failed));
}

}  // namespace
}  // namespace ramferry::rdma
