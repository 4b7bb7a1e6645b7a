// SPDX-License-Identifier: MIT
// Pages under an encoding: there and back, in any order of the workers, and never out of bounds.
#include "page_codec.hpp"

#include "guest_landing.hpp"
#include "test_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <mutex>
#include <random>
#include <thread>

namespace ramferry::migration {
namespace {

using page_codec::kPieceBytes;

/// Runs of a random letter: text-like, with noise in between.
std::vector<std::byte> content(std::size_t size, std::uint64_t seed, bool dense = false) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::size_t at = 0; at < size;) {
    const std::size_t run = dense ? 1 : 1 + random() % 40;
    const auto letter = static_cast<std::byte>(random());
    for (std::size_t i = 0; i < run && at < size; ++i) bytes[at++] = letter;
  }
  return bytes;
}

PageCoding coding(CompressMethod method, int level) {
  return {.compress = true, .method = method, .level = level};
}

TEST(WorkerPool, DoesEachJobOnceForSeveralCallersAtOnce) {
  WorkerPool pool(4);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&pool] {
      for (int turn = 0; turn < 200; ++turn) {
        std::vector<std::atomic<int>> done(static_cast<std::size_t>(turn % 17));
        pool.run(done.size(), [&done](std::size_t i) { ++done[i]; });
        for (const auto& each : done) ASSERT_EQ(each, 1);
      }
    });
  }
  for (std::thread& each : callers) each.join();
}

TEST(WorkerPool, LaterJobsMayFinishFirst) {
  WorkerPool pool(2);
  std::promise<void> second_done;
  std::vector<std::size_t> order;
  std::mutex mutex;
  pool.run(2, [&](std::size_t i) {
    if (i == 0) second_done.get_future().wait();
    {
      const std::lock_guard lock(mutex);
      order.push_back(i);
    }
    if (i == 1) second_done.set_value();
  });
  EXPECT_EQ(order, (std::vector<std::size_t>{1, 0}));
}

TEST(PageCodec, GivesBackWhatItWasGiven) {
  for (const CompressMethod method : {CompressMethod::zlib, CompressMethod::zstd}) {
    for (const int level : {1, 5, 9}) {
      for (const std::size_t size : {std::size_t{4096}, std::size_t{12288}, kPieceBytes}) {
        const auto before = content(size, size + static_cast<std::size_t>(level));
        std::vector<std::byte> small(size), after(size);
        const std::size_t length = page_codec::compress(coding(method, level), before, small);
        ASSERT_GT(length, 0u);
        ASSERT_LT(length, size);
        ASSERT_TRUE(
            page_codec::decompress(page_codec::encoding_of(method), Bytes(small).first(length), after));
        EXPECT_EQ(before, after);
      }
    }
  }
}

TEST(PageCodec, RoundTripsWithinBoundsAndSurvivesWhatIsDamaged) {
  const int rounds = test::long_run() ? 10'000 : 1'000;
  constexpr std::size_t kGuard = 64;
  constexpr std::byte kUntouched{0x5c};
  std::mt19937_64 random(17);
  const auto guarded = [&](std::size_t size) { return std::vector<std::byte>(size + kGuard, kUntouched); };
  const auto intact = [&](const std::vector<std::byte>& bytes) {
    return std::all_of(bytes.end() - kGuard, bytes.end(), [](std::byte each) { return each == kUntouched; });
  };
  for (int round = 0; round < rounds; ++round) {
    const std::size_t size = 4096 * (1 + random() % 4);
    const auto method = random() % 2 == 0 ? CompressMethod::zlib : CompressMethod::zstd;
    const auto before = content(size, random(), random() % 4 == 0);
    auto small = guarded(size), after = guarded(size);
    const std::size_t length = page_codec::compress(coding(method, static_cast<int>(random() % 10)), before,
                                                    Bytes(small).first(size));
    ASSERT_TRUE(intact(small)) << "round " << round;
    if (length == 0) continue;  // stored
    ASSERT_LT(length, size);
    const Encoding encoding = page_codec::encoding_of(method);
    ASSERT_TRUE(page_codec::decompress(encoding, Bytes(small).first(length), Bytes(after).first(size)));
    ASSERT_TRUE(std::equal(before.begin(), before.end(), after.begin())) << "round " << round;
    ASSERT_TRUE(intact(after)) << "round " << round;
    small[random() % length] ^= static_cast<std::byte>(1 + random() % 255);
    (void)page_codec::decompress(encoding, Bytes(small).first(random() % (length + 1)),
                                 Bytes(after).first(size));
    ASSERT_TRUE(intact(after)) << "round " << round;
  }
}

TEST(PageCodec, StoresWhatDoesNotGetShorterAndAllAtLevelZero) {
  std::vector<std::byte> into(4096);
  EXPECT_EQ(page_codec::compress(coding(CompressMethod::zlib, 9), content(4096, 1, true), into), 0u);
  EXPECT_EQ(page_codec::compress(coding(CompressMethod::zstd, 9), content(4096, 1, true), into), 0u);
  EXPECT_EQ(page_codec::compress(coding(CompressMethod::zlib, 0), content(4096, 1), into), 0u);
}

class GuestLandingTest : public testing::Test {
 protected:
  GuestLandingTest()
      : memory_(test::Memory::anonymous(kBytes)),
        decompressors_([] { return 3U; }),
        landing_(memory_.bytes(), 4096, MemoryLanding::Content::blank, decompressors_) {}

  /// What a source makes of `bytes`.
  static std::vector<std::byte> packed(const PageCoding& how, ConstBytes bytes) {
    std::vector<std::vector<std::byte>> small;
    std::vector<ConstBytes> pieces;
    for (std::size_t at = 0; at < bytes.size(); at += kPieceBytes) {
      const ConstBytes piece = bytes.subspan(at, std::min(kPieceBytes, bytes.size() - at));
      small.emplace_back(piece.size());
      const std::size_t length = page_codec::compress(how, piece, small.back());
      pieces.push_back(length == 0 ? piece : ConstBytes(small.back()).first(length));
    }
    std::vector<std::byte> payload;
    page_codec::pack(pieces, payload);
    return payload;
  }

  static constexpr std::size_t kBytes = 15 * kPieceBytes;
  test::Memory memory_;
  Decompressors decompressors_;
  GuestLanding landing_;
};

TEST_F(GuestLandingTest, EveryPieceLandsInItsPlace) {
  for (const CompressMethod method : {CompressMethod::zlib, CompressMethod::zstd}) {
    for (const std::size_t size : {std::size_t{4096}, kPieceBytes + 8192, kBytes}) {
      auto bytes = content(size, size);
      if (size > 2 * kPieceBytes) {  // one piece among the others that is stored
        const auto dense = content(kPieceBytes, 5, true);
        std::copy(dense.begin(), dense.end(), bytes.begin() + kPieceBytes);
      }
      std::memset(memory_.bytes().data(), 0x55, kBytes);
      ASSERT_TRUE(landing_.store(0, size, page_codec::encoding_of(method), packed(coding(method, 1), bytes)));
      EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), memory_.bytes().begin()));
    }
  }
}

TEST_F(GuestLandingTest, MalformedPlacementsAreRefused) {
  const auto bytes = content(kPieceBytes + 4096, 3);
  const auto good = packed(coding(CompressMethod::zlib, 1), bytes);
  const auto refused = [&](Encoding encoding, std::uint64_t length, ConstBytes payload) {
    const auto stored = landing_.store(0, length, encoding, payload);
    return !stored && (stored.error().is(errc::protocol_mismatch) || stored.error().is(errc::unsupported));
  };
  EXPECT_TRUE(refused(page_codec::kZlib, bytes.size() + 4096, good)) << "another length";
  EXPECT_TRUE(refused(page_codec::kZlib, bytes.size(), ConstBytes(good).first(good.size() - 1)));
  EXPECT_TRUE(refused(page_codec::kZlib, bytes.size(), ConstBytes(good).first(3)));
  EXPECT_TRUE(refused(page_codec::kZlib, bytes.size(), {}));
  EXPECT_TRUE(refused(page_codec::kZstd, bytes.size(), good)) << "another method";
  EXPECT_TRUE(refused(5, bytes.size(), good)) << "an unknown encoding";
  EXPECT_TRUE(refused(page_codec::kCopy, 4096, ConstBytes(good).first(100)));
  EXPECT_TRUE(refused(page_codec::kXbzrle, 8192, ConstBytes(good).first(100)));
  std::mt19937_64 random(1);
  for (int turn = 0; turn < 500; ++turn) {  // the sanitizers judge
    auto broken = good;
    for (int i = 0; i < 3; ++i) broken[random() % broken.size()] ^= static_cast<std::byte>(random());
    (void)landing_.store(0, bytes.size(), static_cast<Encoding>(1 + random() % 4), broken);
  }
}

}  // namespace
}  // namespace ramferry::migration
