// SPDX-License-Identifier: MIT
// Migrations drawn from a seed, over real sockets and the in-process channel, with the kernel's dirty
// trackers.
#include "reporting_rig.hpp"
#include "support/faulty_channel.hpp"

#include <ramferry/tcp/transport.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace ramferry::test {
namespace {

using namespace ramferry::migration;
using namespace std::chrono_literals;

/// Everything about one migration that the seed decides.
struct Draw {
  explicit Draw(std::uint64_t seed) : random(seed) {
    vm.seed = seed;
    vm.pages.clear();
    for (std::uint64_t blocks = 1 + random() % 4; blocks > 0; --blocks)
      vm.pages.push_back(1 + random() % 4096);
    vm.writers = static_cast<unsigned>(random() % 3);
    vm.writes_per_second = 1'000 << (random() % 7);
    vm.hot_share = random() % 2 == 0 ? 1.0 : 0.05;
    limits.downtime = std::chrono::milliseconds(random() % 3 == 0 ? 5 : 300);
    limits.bandwidth = random() % 3 == 0 ? 100'000'000 : 0;
    chunk_bytes = std::uint64_t{64 << 10} << (random() % 9);
    lanes = 1 + random() % 4;
    transport = random() % 4;
    tracker = random() % 3;
  }
  std::mt19937_64 random;
  FakeVm::Options vm;
  Limits limits;
  std::uint64_t chunk_bytes, lanes, transport, tracker;
};

class RandomMigration {
 public:
  explicit RandomMigration(std::uint64_t seed) : draw_(seed), reporting_(options()) {}

  void run() {
    const Outcome outcome = migrate();
    ASSERT_TRUE(outcome.source) << outcome.source.error().message();
    ASSERT_TRUE(outcome.destination) << outcome.destination.error().message();
    expect_one_owner(outcome, reporting_);
  }

 private:
  MigrationRig::Options options() {
    MigrationRig::Options made{.vm = draw_.vm, .limits = draw_.limits, .chunk_bytes = draw_.chunk_bytes};
    made.timeout = 20s;
    return made;
  }

  Outcome migrate() {
    if (draw_.tracker != 0) {
      const auto kind = draw_.tracker == 1 ? TrackerKind::pagemap_scan : TrackerKind::userfaultfd;
      if (probe_tracker(kind))
        reporting_.rig.use_tracker([kind](const RamLayout& layout) {
          NullLog log;
          return make_tracker(kind, layout, log);
        });
    }
    // A tight downtime limit may never be met while the guest writes: after some rounds it is relaxed, live.
    reporting_.rig.meanwhile = [this](OutgoingMigration& outgoing) {
      while (outgoing.status().round < 8 && outgoing.status().state < State::device)
        std::this_thread::sleep_for(1ms);
      outgoing.set_limits({.downtime = 10s, .bandwidth = draw_.limits.bandwidth});
    };
    if (draw_.transport == 0) return reporting_.rig.migrate(loopback(draw_.vm.seed));
    if (draw_.transport == 1) return reporting_.rig.migrate(jittery_loopback());
    NullLog log;
    TransportCatalog transports;
    transports.add(make_tcp_transport(log));
    const std::string lanes = "?lanes=" + std::to_string(draw_.lanes);
    const auto path = std::filesystem::temp_directory_path() /
                      ("ramferry-e2e-" + std::to_string(::getpid()) + "-" + std::to_string(draw_.vm.seed));
    return reporting_.rig.migrate(
        transports, (draw_.transport == 2 ? "tcp:127.0.0.1:0" : "unix:" + path.string()) + lanes);
  }

  /// Short receives and delays at both ends.
  PairTransport::MakePair jittery_loopback() {
    return [seed = draw_.vm.seed](SessionId session) {
      ChannelPair pair = make_loopback_pair({.session = session, .seed = seed});
      FaultPlan plan;
      plan.most_delay = 200us;
      plan.most_received = 1000;
      plan.seed = seed;
      return ChannelPair{std::make_unique<FaultyChannel>(std::move(pair.source), plan),
                         std::make_unique<FaultyChannel>(std::move(pair.destination), plan)};
    };
  }

  Draw draw_;
  ReportingRig reporting_;
};

TEST(RandomMigration, BringsEveryPageOver) {
  for (std::uint64_t seed = 1; seed <= repetitions(20, 500); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomMigration(seed).run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace ramferry::test
