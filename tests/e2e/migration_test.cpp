// SPDX-License-Identifier: MIT
// Whole migrations over the in-process channel: every page is right at the destination, and what would make
// one wrong is noticed.
#include "reporting_rig.hpp"

#include <ramferry/forwarding_channel.hpp>

#include <algorithm>
#include <memory>

namespace ramferry::test {
namespace {

using namespace ramferry::migration;

void expect_moved(const Outcome& outcome, const ReportingRig& reporting) {
  ASSERT_TRUE(outcome.source) << outcome.source.error().message();
  ASSERT_TRUE(outcome.destination) << outcome.destination.error().message();
  expect_one_owner(outcome, reporting);
}

void expect_moved_but_different(const Outcome& outcome, const ReportingRig& reporting) {
  ASSERT_TRUE(outcome.source) << outcome.source.error().message();
  ASSERT_TRUE(outcome.destination) << outcome.destination.error().message();
  EXPECT_NE(reporting.difference(), std::nullopt);
}

/// Writes all of the source's memory on the migration thread, once the first round has arrived.
struct Rewrite final : Observer {
  Rewrite(ReportingRig& on, std::function<void(Bytes)> content) : reporting(on), make(std::move(content)) {
    reporting.rig.observer = this;
  }
  void on_round(const RoundReport& report) noexcept override {
    if (report.round != 1) return;
    while (reporting.difference()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Bytes memory = reporting.rig.source.layout()[0].host;
    std::vector<std::byte> content(memory.size());
    make(content);
    guest_writes(memory, content);
    reporting.log->mark(0, 0, memory.size());
  }
  ReportingRig& reporting;
  std::function<void(Bytes)> make;
};

TEST(Migration, MovesAGuest) {
  ReportingRig reporting({.vm = {.seed = 3}});
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_moved(outcome, reporting);
  EXPECT_EQ(outcome.source_status.state, State::completed);
  EXPECT_EQ(outcome.source_status.hand_over, HandOver::running);
  EXPECT_EQ(outcome.destination_status.state, State::completed);
  EXPECT_EQ(outcome.destination_status.hand_over, HandOver::running);
  EXPECT_EQ(outcome.destination_status.session, outcome.source_status.session);
  EXPECT_FALSE(outcome.source_status.session.is_nil());
  EXPECT_EQ(reporting.rig.source.pauses(), 1);
}

TEST(Migration, TellsWhatItDid) {
  ReportingRig reporting({.vm = {.pages = {1000}, .seed = 3}});
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_moved(outcome, reporting);
  const Status& status = outcome.source_status;
  EXPECT_EQ(status.tracker, "reporting");
  EXPECT_EQ(status.ram_total, 1000 * kPage);
  EXPECT_EQ(status.ram_remaining, 0u);
  EXPECT_EQ(status.pages.normal + status.pages.zero + status.pages.untouched, 1000u);
  EXPECT_GT(status.pages.normal, 0u);
  EXPECT_GT(status.pages.zero, 0u);
  ASSERT_EQ(status.rounds.size(), 1u);
  EXPECT_EQ(status.rounds[0].round, 1u);
  EXPECT_EQ(status.rounds[0].guest_bytes, (status.pages.normal + status.pages.zero) * kPage);
  EXPECT_TRUE(status.downtime.has_value());
  EXPECT_GT(status.time_to_first_byte.count(), 0);
  EXPECT_GE(status.total_time, *status.downtime + status.setup_time);
  EXPECT_EQ(status.stream.copied_bytes, 0u) << "what was lent is placed from where it lies";
}

TEST(Migration, GoesOnInRoundsUntilWhatIsLeftFitsTheDowntime) {
  ReportingRig reporting({.vm = {.writers = 2}, .limits = {.downtime = std::chrono::milliseconds(0)}});
  struct Restless final : Observer {
    void on_state(State, State) noexcept override { log->mark(0, 0, kPage); }
    void on_round(const RoundReport&) noexcept override { log->mark(0, 0, kPage); }
    WriteLog* log = nullptr;
  } never_clean;
  never_clean.log = reporting.log.get();
  reporting.rig.observer = &never_clean;
  reporting.rig.meanwhile = [](OutgoingMigration& outgoing) {
    while (outgoing.status().round < 20 && outgoing.status().state < State::device) std::this_thread::yield();
    EXPECT_EQ(outgoing.status().state, State::active);
    outgoing.set_limits({.downtime = std::chrono::seconds(10)});
  };
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_moved(outcome, reporting);
  EXPECT_GE(outcome.source_status.rounds.size(), 20u);
}

TEST(Migration, NeverLimitsTheSwitchover) {
  constexpr std::uint64_t kBandwidth = 1 << 16;  // what is written last would take a minute
  ReportingRig reporting({.vm = {.pages = {1024}, .seed = 5}, .limits = {.bandwidth = kBandwidth}});
  const Bytes memory = reporting.rig.source.layout()[0].host;
  std::fill(memory.begin(), memory.end(), std::byte{0});
  struct LastWord final : Observer {
    explicit LastWord(ReportingRig& on) : reporting(on) {}
    void on_round_begin(std::uint32_t round) noexcept override {
      if (round != 3) return;
      EXPECT_FALSE(reporting.rig.source.running());
      fill_pattern(reporting.rig.source.layout()[0].host, 9);
      reporting.log->mark(0, 0, 1024 * kPage);
    }
    ReportingRig& reporting;
  } last_word(reporting);
  reporting.rig.observer = &last_word;
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_moved(outcome, reporting);
  EXPECT_GE(outcome.source_status.pages.normal, 1024u);
  EXPECT_LT(*outcome.source_status.downtime, std::chrono::seconds(30));
}

/// Keeps in flight what nobody waits for, and notes whether anything was when the last fence was made, which
/// is that of the paused guest.
class Lingering final : public ForwardingChannel {
 public:
  Lingering(std::unique_ptr<Channel> inner, bool& in_flight_at_last_fence)
      : ForwardingChannel(std::move(inner)), in_flight_(in_flight_at_last_fence) {}
  Result<Epoch> fence() override {
    in_flight_ = waited_for_ < fenced_;
    auto epoch = ForwardingChannel::fence();
    if (epoch) fenced_ = *epoch;
    return epoch;
  }
  Result<> settle(Epoch epoch, Deadline deadline) override {
    auto settled = ForwardingChannel::settle(epoch, deadline);
    if (settled) waited_for_ = std::max(waited_for_, epoch);
    return settled;
  }
  Epoch settled() const noexcept override { return waited_for_; }

 private:
  bool& in_flight_;
  Epoch fenced_ = 0, waited_for_ = 0;
};

TEST(Migration, PausesTheGuestWhenWhatWasInFlightHasArrived) {
  ReportingRig reporting({.vm = {.pages = {256}, .seed = 5}});
  bool in_flight = true;
  const Outcome outcome = reporting.rig.migrate([&](SessionId session) {
    ChannelPair pair = loopback()(session);
    pair.source = std::make_unique<Lingering>(std::move(pair.source), in_flight);
    return pair;
  });
  expect_moved(outcome, reporting);
  EXPECT_FALSE(in_flight);
}

TEST(Migration, SendsPagesThatBecameZero) {
  ReportingRig reporting({.vm = {.pages = {256}, .seed = 5}});
  const Bytes memory = reporting.rig.source.layout()[0].host;
  fill_pattern(memory, 9);
  Rewrite rewrite(reporting, [](Bytes all) { std::fill(all.begin(), all.end(), std::byte{0}); });
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_moved(outcome, reporting);
  EXPECT_EQ(outcome.source_status.pages.zero, 256u);
}

// The comparison itself must see what can go wrong: each of these spoils one thing on the way.

TEST(SelfCheck, AWrongPageIsSeen) {
  ReportingRig reporting({.vm = {.seed = 7}});
  std::vector<std::byte> wrong;
  auto meddling = std::make_shared<Meddling>();
  meddling->placements = [&](std::vector<Placement>& batch) {
    if (!wrong.empty()) return;
    wrong.assign(batch[0].bytes.begin(), batch[0].bytes.end());
    wrong[100] ^= std::byte{1};
    batch[0].bytes = wrong;
  };
  expect_moved_but_different(reporting.rig.migrate(meddled_loopback(meddling)), reporting);
}

TEST(SelfCheck, ATornPageIsSeen) {
  ReportingRig reporting({.vm = {.seed = 7}});
  auto meddling = std::make_shared<Meddling>();
  bool done = false;
  meddling->placements = [&](std::vector<Placement>& batch) {
    if (done) return;
    done = true;  // only the first half of the first page
    const Placement whole = batch[0];
    batch[0].bytes = whole.bytes.first(kPage / 2);
    batch[0].length = kPage / 2;
    if (whole.bytes.size() > kPage)
      batch.push_back(
          {.slot = whole.slot, .offset = whole.offset + kPage, .bytes = whole.bytes.subspan(kPage)});
  };
  expect_moved_but_different(reporting.rig.migrate(meddled_loopback(meddling)), reporting);
}

TEST(SelfCheck, ALostZeroRunIsSeen) {
  ReportingRig reporting({.vm = {.pages = {64}, .seed = 7}});
  fill_pattern(reporting.rig.source.layout()[0].host, 1);
  Rewrite rewrite(reporting, [](Bytes all) { std::fill(all.begin(), all.end(), std::byte{0}); });
  auto meddling = std::make_shared<Meddling>();
  bool done = false;
  meddling->zeros = [&](std::vector<ZeroRun>& runs) {
    if (!done) runs.erase(runs.begin());
    done = true;
  };
  expect_moved_but_different(reporting.rig.migrate(meddled_loopback(meddling)), reporting);
}

TEST(SelfCheck, ALostDirtyMarkIsSeen) {
  // The rewrite comes after the first harvest, so that the second, which is the last, loses one of its pages.
  ReportingRig reporting({.vm = {.pages = {64}, .seed = 7}}, 2);
  Rewrite rewrite(reporting, [](Bytes all) { fill_pattern(all, 77); });
  expect_moved_but_different(reporting.rig.migrate(loopback()), reporting);
}

}  // namespace
}  // namespace ramferry::test
