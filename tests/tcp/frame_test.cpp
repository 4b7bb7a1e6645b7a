// SPDX-License-Identifier: MIT
#include "../../tcp/src/frame.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace ramferry::tcp {
namespace {

using Frame = std::vector<std::byte>;

HeaderBytes header_of(const Frame& frame) {
  return HeaderBytes(frame.data(), kHeaderBytes);
}
ConstBytes table_of(const Frame& frame) {
  return ConstBytes(frame).subspan(kHeaderBytes);
}

Frame place_frame(const std::vector<Extent>& extents) {
  Frame frame;
  encode_place(extents, frame);
  return frame;
}

TEST(Frame, ExtentsSurviveTheWire) {
  std::vector<Extent> sent;
  for (std::uint32_t i = 0; i < kMaxEntries; ++i)
    sent.push_back({.slot = SlotId{i * 7919},
                    .offset = 0x0123456789abcdefULL + i,
                    .length = i % 2 == 0 ? i + 1 : 4096,
                    .bytes = i + 1,
                    .encoding = static_cast<Encoding>(i % 2)});
  const Frame frame = place_frame(sent);
  EXPECT_EQ(frame.size(), kHeaderBytes + kMaxTableBytes);
  const auto header = decode_header(header_of(frame));
  ASSERT_TRUE(header.has_value()) << header.error().message();
  EXPECT_EQ(header->type, FrameType::place);
  EXPECT_EQ(header->entries, kMaxEntries);
  EXPECT_EQ(header->table_bytes(), kMaxTableBytes);
  EXPECT_EQ(header->payload, kMaxEntries * (kMaxEntries + 1) / 2);
  std::vector<Extent> received(3);
  ASSERT_TRUE(decode_extents(header_of(frame), table_of(frame), received).has_value());
  EXPECT_EQ(received, sent);
}

TEST(Frame, ZeroRunsSurviveTheWire) {
  const std::vector<ZeroRun> sent = {{SlotId{1}, 0, 1}, {SlotId{0xffffffff}, 1ULL << 63, 1ULL << 62}};
  Frame frame;
  encode_zero(sent, frame);
  const auto header = decode_header(header_of(frame));
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->entries, 2);
  std::vector<ZeroRun> received;
  ASSERT_TRUE(decode_zero_runs(header_of(frame), table_of(frame), received).has_value());
  ASSERT_EQ(received.size(), 2U);
  EXPECT_EQ(received[1].slot, SlotId{0xffffffff});
  EXPECT_EQ(received[1].offset, 1ULL << 63);
  EXPECT_EQ(received[1].length, 1ULL << 62);
}

TEST(Frame, SmallFramesSurviveTheWire) {
  const auto status = encode_status(0x1122334455667788ULL, 0x99aabbccddeeff00ULL);
  auto header = decode_header(status);
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->type, FrameType::status);
  EXPECT_EQ(header->epoch, 0x1122334455667788ULL);
  EXPECT_EQ(header->consumed, 0x99aabbccddeeff00ULL);
  Frame frame;
  encode_fence(42, frame);
  header = decode_header(header_of(frame));
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(header->type, FrameType::fence);
  EXPECT_EQ(header->epoch, 42U);
}

TEST(Frame, TheErrorTextIsCutToItsCap) {
  Frame frame;
  encode_error(std::string(5000, 'x'), frame);
  EXPECT_EQ(frame.size(), kHeaderBytes + kMaxReasonBytes);
  EXPECT_TRUE(decode_header(header_of(frame)).has_value());
}

TEST(Frame, TheLayoutIsTheDocumentedOne) {
  const Frame frame =
      place_frame({{.slot = SlotId{0x01020304}, .offset = 0x1000, .length = 0x2000, .bytes = 0x2000}});
  const std::vector<unsigned> expected = {2, 0, 0, 1, 0, 0, 0x20, 0, 1, 2, 3,    4, 0, 0, 0,    0,
                                          0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0x20, 0};
  ASSERT_EQ(frame.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(std::to_integer<unsigned>(frame[i]), expected[i]) << i;
}

struct Damage {
  const char* what;
  std::function<void(Frame&)> apply;
};

void put32(Frame& frame, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) frame[at + i] = static_cast<std::byte>(value >> (24 - 8 * i));
}

TEST(Frame, WhatThisVersionDoesNotSendIsRefused) {
  const std::vector<Damage> damages = {
      {"type 0", [](Frame& f) { f[0] = std::byte{0}; }},
      {"unknown type", [](Frame& f) { f[0] = std::byte{9}; }},
      {"reserved byte", [](Frame& f) { f[1] = std::byte{1}; }},
      {"no entries", [](Frame& f) { f[3] = std::byte{0}; }},
      {"too many entries", [](Frame& f) { f[2] = std::byte{0x03}, f[3] = std::byte{0xe9}; }},
      {"empty payload", [](Frame& f) { put32(f, 4, 0); }},
      {"payload over its cap", [](Frame& f) { put32(f, 4, kMaxPlaceBytes + 1); }},
      {"largest payload", [](Frame& f) { put32(f, 4, 0xffffffff); }},
      {"fence with entries",
       [](Frame& f) { f.assign(kHeaderBytes, {}), f[0] = std::byte{4}, f[3] = std::byte{1}; }},
      {"fence with payload",
       [](Frame& f) { f.assign(kHeaderBytes, {}), f[0] = std::byte{4}, f[7] = std::byte{1}; }},
      {"fence with more",
       [](Frame& f) { f.assign(kHeaderBytes, {}), f[0] = std::byte{4}, f[31] = std::byte{1}; }},
      {"bytes over their cap",
       [](Frame& f) { f.assign(kHeaderBytes, {}), f[0] = std::byte{1}, put32(f, 4, kMaxMessageBytes + 1); }},
  };
  for (const Damage& damage : damages) {
    Frame frame = place_frame({{.slot = SlotId{1}, .offset = 0, .length = 4096, .bytes = 4096}});
    ASSERT_TRUE(decode_header(header_of(frame)).has_value());
    damage.apply(frame);
    const auto header = decode_header(header_of(frame));
    ASSERT_FALSE(header.has_value()) << damage.what;
    EXPECT_TRUE(header.error().is(errc::protocol_mismatch)) << damage.what;
  }
}

TEST(Frame, ExtentsThatMakeNoSenseAreRefused) {
  const std::vector<Damage> damages = {
      {"empty extent", [](Frame& f) { put32(f, 24, 0), put32(f, 28, 0); }},
      {"raw bytes unlike length", [](Frame& f) { put32(f, 24, 4095); }},
      {"reserved byte", [](Frame& f) { f[13] = std::byte{1}; }},
      {"second one empty", [](Frame& f) { put32(f, kHeaderBytes + 16, 0), put32(f, kHeaderBytes + 20, 0); }},
      {"sum unlike payload", [](Frame& f) { put32(f, 4, 8191); }},
      {"sum that wraps",
       [](Frame& f) { put32(f, 24, 0xfffff000), put32(f, 28, 0xfffff000), put32(f, 4, 0); }},
  };
  for (const Damage& damage : damages) {
    Frame frame = place_frame({{.slot = SlotId{1}, .offset = 0, .length = 4096, .bytes = 4096},
                               {.slot = SlotId{1}, .offset = 8192, .length = 4096, .bytes = 4096}});
    damage.apply(frame);
    std::vector<Extent> extents;
    EXPECT_FALSE(decode_extents(header_of(frame), table_of(frame), extents).has_value()) << damage.what;
  }
  Frame frame;
  encode_zero(std::vector<ZeroRun>{{SlotId{1}, 0, 1}}, frame);
  frame[kHeaderBytes - 1] = std::byte{0};
  std::vector<ZeroRun> runs;
  EXPECT_FALSE(decode_zero_runs(header_of(frame), table_of(frame), runs).has_value()) << "empty zero run";
}

TEST(Frame, TextOfThePeerIsMadePrintable) {
  EXPECT_EQ(printable("a\x1b[31m\nb\x7f"), "a?[31m?b?");
}

}  // namespace
}  // namespace ramferry::tcp
