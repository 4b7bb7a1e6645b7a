// SPDX-License-Identifier: MIT
#include "stream_map.hpp"

#include "vm/random.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace ramferry::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// A stream written by hand, byte for byte as QEMU's format has it.
struct Stream {
  std::vector<std::byte> bytes;
  WireWriter out{bytes};

  Stream() { out.u32(0x5145564d).u32(3).u8(7).u32(5).raw(as_bytes("pc-q1")); }
  void head(std::uint8_t mark, std::uint32_t number, std::string_view name, std::uint32_t version) {
    out.u8(mark).u32(number).text8(name).u32(0).u32(version);
  }
  void footer(std::uint32_t number) { out.u8(0x7e).u32(number); }
  void ram_start() {
    head(1, 2, "ram", 4);
    out.u64(0x5000 | 4).text8("pc.ram").u64(0x4000).text8("vga").u64(0x1000).u64(0x10);
    footer(2);
  }
  void ram_pages() {
    out.u8(2).u32(2);
    out.u64(0x0000 | 8).text8("pc.ram").zeros(4096);
    out.u64(0x1000 | 8 | 0x20).zeros(4096);
    out.u64(0x1000 | 2 | 0x20).u8(0);
    out.u64(0x0000 | 2).text8("vga").u8(0);
    out.u64(0x2000 | 0x40).text8("pc.ram").u8(1).u16(3).zeros(3).u64(0x10);
    footer(2);
  }
  void full(std::uint32_t number, std::string_view name, std::string_view payload) {
    head(4, number, name, 1);
    out.raw(as_bytes(payload));
    footer(number);
  }
  void end(const json& description = nullptr) {
    out.u8(0);
    if (description.is_null()) return;
    const std::string text = description.dump();
    out.u8(6).u32(static_cast<std::uint32_t>(text.size())).raw(as_bytes(text));
  }
};

json description_of(const char* device, std::uint64_t bytes) {
  return {
      {"page_size", 4096},
      {"devices", {{{"name", device}, {"instance_id", 0}, {"fields", {{{"name", "x"}, {"size", bytes}}}}}}}};
}

std::string error_of(const Stream& stream) {
  const auto map = map_stream(stream.bytes);
  return map ? "" : map.error().message();
}

TEST(StreamMap, APartGoesOnInTheBlockOfTheOneBefore) {
  Stream stream;
  stream.ram_start();
  stream.ram_pages();
  stream.out.u8(2).u32(2).u64(0x3000 | 8 | 0x20).zeros(4096).u64(0x10);
  stream.footer(2);
  stream.end();
  const auto map = map_stream(stream.bytes);
  ASSERT_TRUE(map.has_value()) << map.error().message();
  EXPECT_EQ(map->blocks[0].normal, 3U);
}

TEST(StreamMap, CountsPagesByKind) {
  Stream stream;
  stream.ram_start();
  stream.ram_pages();
  stream.end();
  const auto map = map_stream(stream.bytes);
  ASSERT_TRUE(map) << map.error().message();
  EXPECT_EQ(map->machine, "pc-q1");
  ASSERT_EQ(map->blocks.size(), 2u);
  const MappedBlock& ram = map->blocks[0];
  EXPECT_EQ(std::tuple(ram.normal, ram.zero, ram.xbzrle, ram.distinct), std::tuple(2u, 1u, 1u, 3u));
  EXPECT_EQ(map->blocks[1].zero, 1u);
  EXPECT_EQ(map->sections.at(0).parts, 2u);
}

TEST(StreamMap, UnknownSectionsEndWhereTheDescriptionSays) {
  Stream stream;
  // The payload holds what looks like its own footer and a record behind it.
  const std::string tricky = std::string("ab\x7e\0\0\0\x05\0\x06", 9) + "more";
  stream.full(5, "strange/device", tricky);
  stream.end(description_of("strange/device", tricky.size()));
  const auto map = map_stream(stream.bytes);
  ASSERT_TRUE(map) << map.error().message();
  EXPECT_EQ(map->sections.at(0).bytes, tricky.size());
  EXPECT_EQ(map->sections.at(0).sized_by, "description");
}

TEST(StreamMap, OrElseAtTheirFooter) {
  Stream stream;
  stream.full(5, "strange/device", std::string("ab\x7e\0\0\0\x05zz", 9));
  stream.full(6, "globalstate", std::string("\0\0\0\x08running\0", 12) + std::string(92, '\0'));
  stream.end();
  const auto map = map_stream(stream.bytes);
  ASSERT_TRUE(map) << map.error().message();
  EXPECT_EQ(map->sections.at(0).bytes, 9u);
  EXPECT_EQ(map->sections.at(0).sized_by, "footer");
  EXPECT_EQ(map->run_state, "running");
}

TEST(StreamMap, SaysWhereTheBytesStopMakingSense) {
  Stream stream;
  stream.ram_start();
  stream.out.u8(2).u32(9);
  EXPECT_THAT(error_of(stream), HasSubstr("section 9, which never began"));
  Stream other;
  other.head(1, 2, "ram", 4);
  other.out.u64(0x1000 | 8).text8("nosuch");
  EXPECT_THAT(error_of(other), HasSubstr("RAM block 'nosuch', which was not announced"));
  Stream beyond;
  beyond.ram_start();
  beyond.out.u8(2).u32(2).u64(0x4000 | 2).text8("pc.ram");
  EXPECT_THAT(error_of(beyond), HasSubstr("beyond the end of RAM block 'pc.ram'"));
  Stream huge;
  huge.head(1, 2, "ram", 4);
  huge.out.u64(~std::uint64_t{0xfff} | 4).text8("pc.ram").u64(~std::uint64_t{0xfff});
  EXPECT_THAT(error_of(huge), HasSubstr("RAM of"));
}

TEST(StreamMap, OddDescriptionsAreHarmless) {
  const json odd[] = {json::object(),
                      {{"devices", 5}},
                      {{"devices", {1, "x", {{"name", 7}}}}},
                      {{"page_size", 0}},
                      {{"page_size", "x"},
                       {"devices", {{{"name", "d"}, {"instance_id", 0}, {"fields", {1, {{"size", -1}}}}}}}}};
  for (const json& description : odd) {
    Stream stream;
    stream.ram_start();
    stream.ram_pages();
    stream.full(5, "d", "payload");
    stream.end(description);
    const auto map = map_stream(stream.bytes);
    ASSERT_TRUE(map) << map.error().message();
    EXPECT_EQ(map->page_bytes, 4096u);
    EXPECT_FALSE(describe(*map).empty());
  }
}

TEST(StreamMap, TruncatedAndFlippedStreamsAreRefusedOrReadWithinBounds) {
  Stream whole;
  whole.ram_start();
  whole.ram_pages();
  whole.full(5, "strange/device", "payload");
  whole.end(description_of("strange/device", 7));
  vm::Random random(7);
  for (int i = 0; i < 5000; ++i) {
    std::vector<std::byte> bytes = whole.bytes;
    for (std::uint64_t flips = random.below(4); flips > 0; --flips)
      bytes[random.below(bytes.size())] ^= std::byte(1u << random.below(8));
    if (random.below(2) == 0) bytes.resize(random.below(bytes.size()));
    const auto map = map_stream(bytes);
    if (map) (void)describe(*map);
  }
  whole.bytes.resize(whole.bytes.size() - 1);
  EXPECT_NE(error_of(whole), "");
}

}  // namespace
}  // namespace ramferry::cli
