// SPDX-License-Identifier: MIT
// A rig over the in-process channel whose tracker is told of each write.
#pragma once

#include "meddling_channel.hpp"
#include "migration_rig.hpp"
#include "reporting_tracker.hpp"
#include "support/loopback_channel.hpp"

#include <gtest/gtest.h>

namespace ramferry::test {

struct ReportingRig {
  explicit ReportingRig(MigrationRig::Options options, int forget_at = 0)
      : rig(with_tracker(std::move(options), forget_at)) {
    log = std::make_unique<WriteLog>(rig.source.layout());
    rig.source.report_writes([this](auto... write) { log->mark(write...); });
  }
  MigrationRig::Options with_tracker(MigrationRig::Options options, int forget_at) {
    options.make_tracker =
        [this,
         forget_at](const migration::RamLayout& layout) -> Result<std::unique_ptr<migration::DirtyTracker>> {
      return std::make_unique<ReportingTracker>(layout, *log, forget_at);
    };
    return options;
  }
  std::optional<std::string> difference() const {
    return first_difference(rig.source.layout(), rig.destination.layout());
  }

  std::unique_ptr<WriteLog> log;
  MigrationRig rig;
};

inline PairTransport::MakePair loopback(std::uint64_t seed = 1) {
  return [seed](SessionId session) { return make_loopback_pair({.session = session, .seed = seed}); };
}

inline PairTransport::MakePair meddled_loopback(const std::shared_ptr<Meddling>& meddling,
                                                std::uint64_t seed = 1) {
  return [=](SessionId session) {
    return meddle(make_loopback_pair({.session = session, .seed = seed}), meddling);
  };
}

/// What must hold however a migration ended: one owner at most, and if there is none, somebody who says so.
inline void expect_one_owner(const Outcome& outcome, const ReportingRig& reporting) {
  EXPECT_FALSE(outcome.source_runs && outcome.destination_owns) << "two owners";
  const bool source_unknown = !outcome.source && outcome.source.error().is(errc::outcome_unknown);
  const bool destination_unknown =
      !outcome.destination && outcome.destination.error().is(errc::outcome_unknown);
  EXPECT_TRUE(!outcome.source || outcome.destination_owns) << "the source believes the guest is theirs";
  EXPECT_EQ(outcome.source_runs, !outcome.source && !source_unknown);
  EXPECT_TRUE(!outcome.destination || outcome.destination_owns);
  const bool owned = outcome.source_runs || outcome.destination_owns;
  EXPECT_TRUE(owned || source_unknown || destination_unknown) << "the guest is lost, and nobody says so";
  if (outcome.destination_owns) {
    EXPECT_EQ(reporting.difference(), std::nullopt);
  }
}

}  // namespace ramferry::test
