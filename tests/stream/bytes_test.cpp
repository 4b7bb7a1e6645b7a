// SPDX-License-Identifier: MIT
#include <ramferry/bytes.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ramferry {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int each : values) bytes.push_back(static_cast<std::byte>(each));
  return bytes;
}

TEST(WireWriter, WritesTheMostSignificantByteFirst) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u8(0x01).u16(0x0203).u32(0x04050607).u64(0x08090a0b0c0d0e0fULL);
  EXPECT_EQ(bytes, bytes_of({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
}

TEST(WireWriter, AppendsToWhatIsThere) {
  std::vector<std::byte> bytes = bytes_of({9});
  WireWriter(bytes).raw(bytes_of({8, 7})).zeros(2).text8("ab").text16("c");
  EXPECT_EQ(bytes, bytes_of({9, 8, 7, 0, 0, 2, 'a', 'b', 0, 1, 'c'}));
}

TEST(WireReader, ReadsWhatTheWriterWrote) {
  const std::string longest(0xffff, 'x');
  std::vector<std::byte> bytes;
  WireWriter(bytes)
      .u8(0xfe)
      .u16(0xfedc)
      .u32(0xfedcba98)
      .u64(~0ULL)
      .text8("")
      .text8("name")
      .text16(longest)
      .raw(bytes_of({1, 2, 3}));
  WireReader reader(bytes);
  EXPECT_EQ(reader.u8(), 0xfe);
  EXPECT_EQ(reader.u16(), 0xfedc);
  EXPECT_EQ(reader.u32(), 0xfedcba98U);
  EXPECT_EQ(reader.u64(), ~0ULL);
  EXPECT_EQ(reader.text8(), "");
  EXPECT_EQ(reader.text8(), "name");
  EXPECT_EQ(reader.text16(), longest);
  EXPECT_EQ(reader.left(), 3U);
  EXPECT_FALSE(reader.finish("it").has_value());
  EXPECT_TRUE(reader.finish_prefix("it").has_value());
  EXPECT_EQ(reader.raw(3).size(), 3U);
  EXPECT_TRUE(reader.finish("it").has_value());
}

TEST(WireReader, AMissingFieldReadsAsZeroAndFailsForGood) {
  const std::vector<std::byte> bytes = bytes_of({1, 2, 3});
  WireReader reader(bytes);
  EXPECT_EQ(reader.u32(), 0U);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.u8(), 0U) << "though a byte would be there";
  EXPECT_EQ(reader.u64(), 0U);
  EXPECT_TRUE(reader.raw(1).empty());
  EXPECT_EQ(reader.text8(), "");
  const auto outcome = reader.finish_prefix("the hello");
  ASSERT_FALSE(outcome.has_value());
  EXPECT_TRUE(outcome.error().is(errc::protocol_mismatch));
  EXPECT_EQ(outcome.error().doing, "reading the hello: it is too short");
}

TEST(WireReader, ATextLongerThanTheRestFails) {
  for (const auto& bytes : {bytes_of({5, 'a', 'b'}), bytes_of({255})}) {
    WireReader reader(bytes);
    EXPECT_EQ(reader.text8(), "");
    EXPECT_FALSE(reader.ok());
  }
  const auto bytes = bytes_of({0xff, 0xff, 'a'});
  WireReader reader(bytes);
  EXPECT_EQ(reader.text16(), "");
  EXPECT_FALSE(reader.ok());
}

TEST(WireReader, BytesTooManyAreAnError) {
  const std::vector<std::byte> bytes = bytes_of({1, 2, 3});
  WireReader reader(bytes);
  reader.u8();
  const auto outcome = reader.finish("the hello");
  ASSERT_FALSE(outcome.has_value());
  EXPECT_TRUE(outcome.error().is(errc::protocol_mismatch));
  EXPECT_EQ(outcome.error().doing, "reading the hello: 2 bytes too many");
}

TEST(WireReader, ASizeThatWouldWrapFails) {
  const std::vector<std::byte> bytes = bytes_of({1, 2, 3});
  WireReader reader(bytes);
  EXPECT_TRUE(reader.raw(SIZE_MAX).empty());
  EXPECT_FALSE(reader.ok());
}

}  // namespace
}  // namespace ramferry
