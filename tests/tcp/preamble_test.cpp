// SPDX-License-Identifier: MIT
#include "../../tcp/src/preamble.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace ramferry::tcp {
namespace {

Preamble hello() {
  return {.kind = PreambleKind::hello,
          .session = SessionId::random(),
          .lane = 2,
          .lanes = 3,
          .optional = 0x80000001,
          .window = 1U << 20,
          .peer_timeout_ms = 2500,
          .reason = {}};
}

std::vector<std::byte> encoded(const Preamble& preamble) {
  std::vector<std::byte> bytes;
  encode_preamble(preamble, bytes);
  return bytes;
}

Result<Preamble> decoded(const std::vector<std::byte>& bytes) {
  RAMFERRY_TRY_ASSIGN(
      const std::size_t size,
      decode_preamble_size(std::span<const std::byte, kPreamblePrefix>(bytes.data(), kPreamblePrefix)));
  EXPECT_EQ(size, bytes.size());
  return decode_preamble(bytes);
}

TEST(Preamble, SurvivesTheWireAndUnknownOptionalFeaturesAreIgnored) {
  const Preamble sent = hello();
  const auto received = decoded(encoded(sent));
  ASSERT_TRUE(received.has_value()) << received.error().message();
  EXPECT_EQ(received->session, sent.session);
  EXPECT_EQ(received->lane, 2);
  EXPECT_EQ(received->lanes, 3);
  EXPECT_EQ(received->optional, 0x80000001);
  EXPECT_EQ(received->window, 1U << 20);
  EXPECT_EQ(received->peer_timeout_ms, 2500U);
  EXPECT_EQ(preamble_bytes(sent), encoded(sent).size());
}

TEST(Preamble, ASideConnectionSaysItsNumber) {
  Preamble sent = hello();
  sent.kind = PreambleKind::side;
  sent.side = 0x01020304;
  const auto received = decoded(encoded(sent));
  ASSERT_TRUE(received.has_value()) << received.error().message();
  EXPECT_EQ(received->kind, PreambleKind::side);
  EXPECT_EQ(received->session, sent.session);
  EXPECT_EQ(received->side, 0x01020304U);
  EXPECT_EQ(preamble_bytes(sent), encoded(sent).size());
}

TEST(Preamble, CannotBeTakenForAnotherProtocol) {
  const auto bytes = encoded(hello());
  EXPECT_NE(std::to_integer<int>(bytes[0]), 0x16) << "TLS";
  EXPECT_NE(std::to_integer<int>(bytes[0]), 'Q') << "QEVM";
  EXPECT_NE(std::to_integer<int>(bytes[0]), 0x11) << "multifd";
  EXPECT_GE(std::to_integer<int>(bytes[0]), 0x80) << "text";
}

TEST(Preamble, FieldsOfANewerReleaseAreSkipped) {
  auto bytes = encoded(hello());
  bytes.resize(bytes.size() + 40, std::byte{7});
  bytes[10] = static_cast<std::byte>(bytes.size() >> 8);
  bytes[11] = static_cast<std::byte>(bytes.size());
  EXPECT_TRUE(decoded(bytes).has_value());
}

TEST(Preamble, WhatMakesNoSenseIsRefused) {
  struct Case {
    const char* what;
    std::function<void(Preamble&)> apply;
    errc condition;
  };
  const std::vector<Case> cases = {
      {"no lanes", [](Preamble& p) { p.lanes = 0; }, errc::protocol_mismatch},
      {"too many lanes", [](Preamble& p) { p.lanes = 65; }, errc::protocol_mismatch},
      {"lane beyond", [](Preamble& p) { p.lane = 3; }, errc::protocol_mismatch},
      {"no session", [](Preamble& p) { p.session = {}; }, errc::protocol_mismatch},
      {"no window", [](Preamble& p) { p.window = 0; }, errc::protocol_mismatch},
      {"no timeout", [](Preamble& p) { p.peer_timeout_ms = 0; }, errc::protocol_mismatch},
      {"unknown required feature", [](Preamble& p) { p.required = 4; }, errc::unsupported},
      {"kind 0", [](Preamble& p) { p.kind = PreambleKind{0}; }, errc::protocol_mismatch},
      {"unknown kind", [](Preamble& p) { p.kind = PreambleKind{5}; }, errc::protocol_mismatch},
  };
  for (const Case& each : cases) {
    Preamble preamble = hello();
    each.apply(preamble);
    const auto received = decoded(encoded(preamble));
    ASSERT_FALSE(received.has_value()) << each.what;
    EXPECT_TRUE(received.error().is(each.condition)) << each.what << ": " << received.error().message();
  }
}

TEST(Preamble, APrefixOfAnotherMagicVersionOrSizeIsRefused) {
  const auto refused = [](std::size_t at, int value) {
    auto bytes = encoded(hello());
    bytes[at] = static_cast<std::byte>(value);
    return !decode_preamble_size(std::span<const std::byte, kPreamblePrefix>(bytes.data(), kPreamblePrefix));
  };
  EXPECT_TRUE(refused(5, 'X')) << "magic";
  EXPECT_TRUE(refused(9, 2)) << "version";
  EXPECT_TRUE(refused(10, 0xff)) << "size over its cap";
  EXPECT_TRUE(refused(11, 5)) << "size below its prefix";
}

TEST(Preamble, CutAnywhereItIsTooShort) {
  const auto bytes = encoded(hello());
  for (std::size_t size = kPreamblePrefix; size < bytes.size(); ++size)
    EXPECT_FALSE(decode_preamble(ConstBytes(bytes).first(size)).has_value()) << size;
}

TEST(Preamble, ARefusalBringsItsReason) {
  const auto received =
      decoded(encoded({.kind = PreambleKind::refused, .session = {}, .reason = "too many sessions"}));
  ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->reason, "too many sessions");
}

}  // namespace
}  // namespace ramferry::tcp
