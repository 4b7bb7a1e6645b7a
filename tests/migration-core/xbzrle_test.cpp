// SPDX-License-Identifier: MIT
#include <ramferry/migration/xbzrle.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

namespace ramferry::migration {
namespace {

constexpr std::size_t kPage = 4096;
using Page = std::vector<std::byte>;

Page page_of(std::uint8_t fill) {
  return Page(kPage, std::byte{fill});
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

TEST(Xbzrle, EncodesAnUnchangedPageToNothing) {
  Page into(kPage);
  EXPECT_EQ(xbzrle_encode(page_of(7), page_of(7), into), 0u);
}

TEST(Xbzrle, EncodesRunsAsTheFormatSays) {
  const Page before = page_of(0);
  Page now = before;
  now[0] = std::byte{0xaa};  // unchanged 0, changed 1
  for (int at = 300; at < 303; ++at) now[static_cast<std::size_t>(at)] = std::byte{0xbb};
  Page into(kPage);
  const auto length = xbzrle_encode(before, now, into);
  ASSERT_TRUE(length);
  into.resize(*length);
  EXPECT_EQ(into, bytes_of({0, 1, 0xaa, 0xab, 0x02, 3, 0xbb, 0xbb, 0xbb}));  // 299 = 0x2b | 0x80, 0x02
}

TEST(Xbzrle, SaysWhenTheDeltaDoesNotFit) {
  Page into(kPage);
  EXPECT_FALSE(xbzrle_encode(page_of(0), page_of(1), into));  // two bytes of length and every byte changed
  EXPECT_TRUE(xbzrle_encode(page_of(0), page_of(1), into = Page(kPage + 3)));
}

TEST(Xbzrle, RoundTripsWithinBounds) {
  const int rounds = std::getenv("RAMFERRY_LONG") ? 10'000 : 1'000;
  std::mt19937_64 draw(42);
  for (int round = 0; round < rounds; ++round) {
    Page before(kPage);
    for (std::byte& each : before) each = static_cast<std::byte>(draw() % 3);
    Page now = before;
    const std::uint64_t runs = draw() % 40;
    for (std::uint64_t run = 0; run < runs; ++run) {
      const std::size_t from = draw() % kPage;
      const std::size_t length = std::min<std::size_t>(1 + draw() % (draw() % 2 ? 8 : 500), kPage - from);
      for (std::size_t at = from; at < from + length; ++at) now[at] = static_cast<std::byte>(draw() % 3);
    }
    const std::size_t room = draw() % (kPage + 1);
    std::vector<std::byte> into(room + 16, std::byte{0x5c});
    const auto length = xbzrle_encode(before, now, Bytes(into).first(room));
    for (std::size_t at = room; at < into.size(); ++at)
      ASSERT_EQ(into[at], std::byte{0x5c}) << "wrote past the end";
    if (!length) continue;
    ASSERT_LE(*length, room);
    Page page = before;
    ASSERT_TRUE(xbzrle_decode(ConstBytes(into).first(*length), page));
    ASSERT_EQ(page, now) << "round " << round;
  }
}

TEST(Xbzrle, RefusesMalformedDeltas) {
  for (const auto& delta :
       {bytes_of({0}), bytes_of({0, 0}), bytes_of({0x80}), bytes_of({0x80, 0x80, 1}), bytes_of({0, 2, 0xaa}),
        bytes_of({0x80, 0x20, 1, 0xaa}), bytes_of({0xff, 0x1f, 2, 0xaa, 0xaa}), bytes_of({0, 1, 0xaa, 5})}) {
    Page page = page_of(0);
    const auto decoded = xbzrle_decode(delta, page);
    ASSERT_FALSE(decoded);
    EXPECT_TRUE(decoded.error().is(errc::protocol_mismatch));
  }
}

TEST(Xbzrle, SurvivesRandomDeltas) {
  std::mt19937_64 draw(7);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> delta(draw() % 200);
    for (std::byte& each : delta) each = static_cast<std::byte>(draw() % 2 ? draw() % 4 : draw());
    Page page(64);
    (void)xbzrle_decode(delta, page);  // the sanitizers judge
  }
}

TEST(XbzrleCache, FindsWhatWasInsertedAndNothingElse) {
  XbzrleCache cache(8 * kPage + 100, kPage);
  EXPECT_EQ(cache.bytes(), 8 * kPage);
  EXPECT_TRUE(cache.find(3, 1).empty());
  EXPECT_TRUE(cache.insert(3, page_of(3), 1));
  EXPECT_TRUE(cache.find(11, 1).empty());  // the same place
  ASSERT_FALSE(cache.find(3, 1).empty());
  EXPECT_EQ(cache.find(3, 1)[0], std::byte{3});
  cache.erase(3);
  EXPECT_TRUE(cache.find(3, 1).empty());
}

TEST(XbzrleCache, KeepsHotPagesAgainstNewcomers) {
  XbzrleCache cache(8 * kPage, kPage);
  ASSERT_TRUE(cache.insert(3, page_of(3), 5));
  EXPECT_FALSE(cache.insert(11, page_of(11), 6));
  EXPECT_TRUE(cache.insert(11, page_of(11), 7));
  EXPECT_TRUE(cache.find(3, 7).empty());
}

TEST(XbzrleCache, ResizesAndKeepsWhatFits) {
  XbzrleCache cache(8 * kPage, kPage);
  for (std::uint64_t page = 0; page < 8; ++page)
    cache.insert(page, page_of(static_cast<std::uint8_t>(page)), 1);
  cache.resize(16 * kPage);
  for (std::uint64_t page = 0; page < 8; ++page) {
    ASSERT_FALSE(cache.find(page, 1).empty());
    EXPECT_EQ(cache.find(page, 1)[9], static_cast<std::byte>(page));
  }
  cache.resize(1);
  EXPECT_EQ(cache.bytes(), kPage);
}

}  // namespace
}  // namespace ramferry::migration
