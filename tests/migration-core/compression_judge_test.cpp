// SPDX-License-Identifier: MIT
#include "compression_judge.hpp"

#include <gtest/gtest.h>

namespace ramferry::migration {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBatch = 1 << 20;

/// Of `batches`, how many went compressed, where a batch costs this much each way.
int compressed_of(CompressionJudge& judge, int batches, Nanoseconds raw, Nanoseconds compressed) {
  int count = 0;
  for (int i = 0; i < batches; ++i) {
    const bool way = judge.compress_next();
    count += way ? 1 : 0;
    judge.note(way, kBatch, way ? compressed : raw);
  }
  return count;
}

TEST(CompressionJudge, CompressesOnASlowLinkButTriesTheOtherWayNowAndThen) {
  CompressionJudge judge;
  EXPECT_TRUE(judge.compress_next());
  const int count = compressed_of(judge, 340, 8ms, 3ms);
  EXPECT_GE(count, 340 - 340 / 16 - 2);
  EXPECT_LT(count, 340);
}

TEST(CompressionJudge, LeavesPagesAsTheyAreOnAFastLink) {
  CompressionJudge judge;
  const int count = compressed_of(judge, 340, 1ms, 10ms);
  EXPECT_LE(count, 340 / 16 + 4);
  EXPECT_GT(count, 2) << "it is tried again";
}

TEST(CompressionJudge, FollowsALinkThatBecomesSlow) {
  CompressionJudge judge;
  compressed_of(judge, 100, 1ms, 10ms);
  EXPECT_GE(compressed_of(judge, 100, 30ms, 10ms), 80);
}

TEST(CompressionJudge, LearnsNothingFromCrumbs) {
  CompressionJudge judge;
  for (int i = 0; i < 100; ++i) judge.note(judge.compress_next(), 4096, 1s);
  EXPECT_TRUE(judge.compress_next());
}

}  // namespace
}  // namespace ramferry::migration
