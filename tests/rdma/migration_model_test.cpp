// SPDX-License-Identifier: MIT
// Whole migrations over the channel on the fabric model: the engine and the channel together.
#include "e2e/reporting_rig.hpp"
#include "model_pair.hpp"

#include <string>

namespace ramferry::rdma {
namespace {

using testing::ModelNet;
using testing::ModelPlan;

/// A migration of one block of `pages` pages over a net of its own.
struct Subject {
  Subject(std::size_t pages, const ModelPlan& plan = {}, std::uint64_t chunk_bytes = 64ULL << 20)
      : net(plan), reporting({.vm = {.pages = {pages}, .seed = 5}, .chunk_bytes = chunk_bytes}) {}

  test::Outcome migrate(const std::string& options, const std::string& at_destination = {}) {
    return reporting.rig.migrate([&](SessionId session) {
      auto pair = testing::make_pair_on(net, session, options, at_destination);
      EXPECT_TRUE(pair) << pair.error().message();
      return std::move(*pair);
    });
  }
  void expect_moved(const test::Outcome& outcome) const {
    ASSERT_TRUE(outcome.source) << outcome.source.error().message();
    ASSERT_TRUE(outcome.destination) << outcome.destination.error().message();
    test::expect_one_owner(outcome, reporting);
    EXPECT_EQ(net.counts().collisions, 0U);
  }

  ModelNet net;
  test::ReportingRig reporting;
};

TEST(RdmaMigration, RoundOneOnDemandCopiesNothingWhateverTheBudget) {
  for (const char* options :
       {"lanes=2&pin=demand&pin-budget=1M", "lanes=1&pin=demand&pin-budget=4M&chunk=256K"}) {
    SCOPED_TRACE(options);
    Subject subject(8192);
    const test::Outcome outcome = subject.migrate(options);
    subject.expect_moved(outcome);
    const migration::Status& status = outcome.source_status;
    EXPECT_EQ(status.rounds.size(), 1U);
    EXPECT_GT(status.stream.placed_bytes_sent, 8192 * 4096U / 4);
    EXPECT_EQ(status.stream.copied_bytes, 0U);
  }
}

TEST(RdmaMigration, AGuestLargerThanTheLockLimitMovesOnDemand) {
  ModelPlan plan;
  plan.device.lockable_bytes = 8 << 20;  // Debian's
  Subject subject(8192, plan);
  const test::Outcome outcome = subject.migrate("lanes=4&pin=demand");
  subject.expect_moved(outcome);
  EXPECT_EQ(outcome.source_status.stream.copied_bytes, 0U);
  EXPECT_LE(outcome.source_status.stream.peak_pinned_bytes, 8U << 20);
}

TEST(RdmaMigration, AGuestLargerThanTheLockLimitIsRefusedByPinAll) {
  ModelPlan plan;
  plan.device.lockable_bytes = 8 << 20;
  Subject subject(8192, plan);
  const test::Outcome outcome = subject.migrate("lanes=4&pin=all");
  ASSERT_FALSE(outcome.source);
  EXPECT_NE(outcome.source.error().message().find("limit"), std::string::npos)
      << outcome.source.error().message();
  EXPECT_TRUE(outcome.source_runs);
}

}  // namespace
}  // namespace ramferry::rdma
