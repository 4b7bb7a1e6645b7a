// SPDX-License-Identifier: MIT
#include "compression_judge.hpp"

#include <gtest/gtest.h>

namespace ramferry::migration {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kBatch = 1 << 20;

struct Sent {
  std::uint64_t raw = 0, compressed = 0;  ///< guest bytes
};

/// Of `batches`, how much went each way, where a byte costs this many ns.
Sent send(CompressionJudge& judge, int batches, int raw, int compressed) {
  Sent sent;
  const auto note = [&](bool way, std::uint64_t bytes) {
    (way ? sent.compressed : sent.raw) += bytes;
    judge.note(way, bytes, Nanoseconds(bytes * static_cast<std::uint64_t>(way ? compressed : raw)));
  };
  for (int i = 0; i < batches; ++i) {
    const std::uint64_t trial = judge.try_other() ? CompressionJudge::kTrialBytes : 0;
    if (trial != 0) note(!judge.compress(), trial);
    note(judge.compress(), kBatch - trial);
  }
  return sent;
}

TEST(CompressionJudge, CompressesOnASlowLinkButTriesTheOtherWayNowAndThen) {
  CompressionJudge judge;
  EXPECT_TRUE(judge.try_other()) << "the first is a trial";
  const Sent sent = send(judge, 340, 8, 3);
  EXPECT_GT(sent.raw, 5 * CompressionJudge::kTrialBytes);
  EXPECT_LT(sent.raw * 30, sent.compressed);
}

TEST(CompressionJudge, TrialsCostTwoPartsInAHundredHoweverBadTheyAre) {
  for (const int worse : {2, 10, 100}) {
    CompressionJudge judge;
    const Sent sent = send(judge, 20'000, 1, worse);
    EXPECT_GT(sent.compressed, CompressionJudge::kTrialBytes) << "it is tried again";
    EXPECT_LT(static_cast<double>(sent.compressed) * (worse - 1), static_cast<double>(sent.raw) * 0.03);
  }
}

TEST(CompressionJudge, LeavesPagesAsTheyAreWhereItMakesNoDifference) {
  CompressionJudge judge;
  const Sent sent = send(judge, 1000, 8, 8);
  EXPECT_LT(sent.compressed * 30, sent.raw);
}

TEST(CompressionJudge, FollowsALinkThatBecomesSlow) {
  CompressionJudge judge;
  send(judge, 100, 1, 10);
  const Sent sent = send(judge, 1000, 30, 10);
  EXPECT_GT(sent.compressed, 800 * kBatch);
}

TEST(CompressionJudge, LearnsNothingFromCrumbs) {
  CompressionJudge judge;
  for (int i = 0; i < 100; ++i) judge.note(judge.compress(), 4096, 1s);
  EXPECT_FALSE(judge.compress());
}

}  // namespace
}  // namespace ramferry::migration
