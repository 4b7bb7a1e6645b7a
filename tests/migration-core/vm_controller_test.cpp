// SPDX-License-Identifier: MIT
// What a monitor may ask of a VM in each run state, and what query-migrate tells. Migrations that succeed are
// made of processes, in tests/e2e.
#include "announcer.hpp"

#include <ramferry/migration/qmp_commands.hpp>
#include <ramferry/migration/vm_controller.hpp>
#include <ramferry/traits.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <future>
#include <limits>
#include <mutex>
#include <vector>

namespace ramferry::migration {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class FakeGuest final : public GuestControl {
 public:
  Result<> pause() override {
    running_ = false;
    return {};
  }
  Result<> resume() override {
    running_ = true;
    return {};
  }
  bool running() const noexcept override { return running_; }

 private:
  std::atomic<bool> running_ = false;
};

/// Nobody can be reached by it; a listener waits until it is cancelled.
class DeadTransport : public Transport {
 public:
  class Waiting final : public Listener {
   public:
    explicit Waiting(Endpoint at) : at_(std::move(at)) {}
    Endpoint local() const override { return at_; }
    Result<Link> accept(Deadline /*deadline*/) override {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return cancelled_; });
      return fail(errc::cancelled, "accepting");
    }
    void cancel() noexcept override {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      changed_.notify_all();
    }

   private:
    Endpoint at_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool cancelled_ = false;
  };

  std::span<const std::string_view> schemes() const noexcept override { return kSchemes; }
  std::span<const OptionSpec> options() const noexcept override { return {}; }
  Result<> probe() const override { return {}; }
  Result<Link> connect(const Endpoint& /*to*/, SessionId /*session*/, Deadline /*deadline*/) override {
    return fail(errc::peer_gone, "connecting to nobody");
  }
  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override {
    if (at.port == 1) return fail(errc::in_use, "listening");
    return std::make_unique<Waiting>(at);
  }

 private:
  static constexpr std::array<std::string_view, 1> kSchemes = {"tcp"};
};

class DirectDeadTransport final : public DeadTransport, public PlacesDirectly {
 public:
  std::span<const std::string_view> schemes() const noexcept override { return kSchemes; }

 private:
  static constexpr std::array<std::string_view, 1> kSchemes = {"direct"};
};

class Heard final : public VmObserver {
 public:
  void on_run_state(RunState from, RunState to) noexcept override {
    add(std::string(to_string(from)) + ">" + std::string(to_string(to)));
  }
  void on_state(State /*from*/, State to) noexcept override { add(std::string(to_string(to))); }
  void on_incoming_end(const Result<>& result) noexcept override { add(result ? "came" : "did not come"); }
  std::vector<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(heard_, {});
  }

 private:
  void add(std::string what) {
    const std::lock_guard lock(mutex_);
    heard_.push_back(std::move(what));
  }
  std::mutex mutex_;
  std::vector<std::string> heard_;
};

class VmControllerTest : public testing::Test, public IncomingSteps {
 protected:
  VmControllerTest() {
    transports_.add(std::make_unique<DeadTransport>());
    transports_.add(std::make_unique<DirectDeadTransport>());
    controller_.emplace(VmParts{guest_, sections_, *this, transports_, clock_, log_});
    controller_->observe(heard_);
  }
  std::string refusal(const Result<>& result) { return result ? "" : result.error().message(); }
  void wait_for_failure() {
    while (controller_->migrating()) std::this_thread::yield();
    ASSERT_EQ(controller_->status().state, State::failed);
  }

  // IncomingSteps
  void announce(unsigned round) override {
    announcements_ = round;
    if (round == 3) announced_.set_value();
  }

  NullLog log_;
  std::atomic<unsigned> announcements_ = 0;
  std::promise<void> announced_;
  SystemClock clock_;
  FakeGuest guest_;
  SectionRegistry sections_;
  TransportCatalog transports_;
  Heard heard_;
  std::optional<VmController> controller_;
};

TEST_F(VmControllerTest, StopAndContFollowTheGuest) {
  EXPECT_EQ(controller_->run_state(), RunState::prelaunch);
  ASSERT_TRUE(controller_->stop());
  EXPECT_EQ(controller_->run_state(), RunState::prelaunch)
      << "as at QEMU: it does not run, so it is not stopped";
  ASSERT_TRUE(controller_->cont());
  EXPECT_TRUE(guest_.running());
  ASSERT_TRUE(controller_->cont());
  ASSERT_TRUE(controller_->stop());
  EXPECT_FALSE(guest_.running());
  EXPECT_THAT(heard_.take(), ElementsAre("prelaunch>running", "running>paused"));
}

TEST_F(VmControllerTest, UnknownSchemeFailsAtOnceAndListsTheKnown) {
  const auto refused = controller_->migrate("bogus:1");
  EXPECT_THAT(refusal(refused), HasSubstr("Parameter 'uri' expects a valid migration protocol"));
  EXPECT_THAT(refusal(refused), HasSubstr("known are tcp:"));
  EXPECT_EQ(describe_migration(controller_->status())["status"], "failed");
  EXPECT_NE(refusal(controller_->migrate("tcp:a:1?nosuch=1")), "");
}

TEST_F(VmControllerTest, FailedConnectLeavesTheGuestRunningAndMayBeTriedAgain) {
  ASSERT_TRUE(controller_->cont());
  for (int i = 0; i < 3; ++i) {
    heard_.take();
    ASSERT_TRUE(controller_->migrate("tcp:nobody:1"));
    wait_for_failure();
    EXPECT_THAT(heard_.take(), ElementsAre("setup", "failed"));
    EXPECT_THAT(describe_migration(controller_->status())["error-desc"], HasSubstr("connecting to nobody"));
    EXPECT_TRUE(guest_.running());
  }
}

TEST_F(VmControllerTest, WaitingGuestNeitherRunsNorLeaves) {
  ASSERT_TRUE(controller_->expect_incoming());
  EXPECT_EQ(controller_->run_state(), RunState::inmigrate);
  ASSERT_TRUE(controller_->cont()) << "as at QEMU: remembered, not done";
  EXPECT_FALSE(guest_.running());
  EXPECT_EQ(refusal(controller_->migrate("tcp:a:2")).rfind("Guest is waiting for an incoming migration", 0),
            0u);
}

TEST_F(VmControllerTest, IncomingIsStartedOnceButRetriedAfterABadAddress) {
  EXPECT_THAT(refusal(controller_->migrate_incoming("tcp::2")), HasSubstr("'-incoming' was not specified"));
  ASSERT_TRUE(controller_->expect_incoming());
  EXPECT_THAT(refusal(controller_->expect_incoming()), HasSubstr("already been deferred"));
  EXPECT_NE(refusal(controller_->migrate_incoming("tcp::1")), "") << "in use";
  ASSERT_TRUE(controller_->migrate_incoming("tcp::2"));
  EXPECT_EQ(controller_->incoming_address()->port, 2);
  EXPECT_THAT(refusal(controller_->migrate_incoming("tcp::3")), HasSubstr("already been started"));
  EXPECT_NE(refusal(controller_->expect_incoming()), "") << "nor deferred again";
  controller_->shut_down();
  EXPECT_EQ(controller_->run_state(), RunState::inmigrate);
  EXPECT_EQ(heard_.take().back(), "did not come");
}

TEST_F(VmControllerTest, GuestThatRanDoesNotWaitForAnotherOne) {
  ASSERT_TRUE(controller_->cont());
  EXPECT_THAT(refusal(controller_->expect_incoming()), HasSubstr("ran"));
  ASSERT_TRUE(controller_->stop());
  EXPECT_NE(refusal(controller_->expect_incoming()), "");
}

TEST_F(VmControllerTest, EncodingsAreRefusedWhereTheTransportPlacesDirectly) {
  for (const char* each : {"xbzrle", "compress"}) {
    const auto set = [&](bool on) {
      ASSERT_TRUE(controller_->capabilities().set({{{"capability", each}, {"state", on}}}));
    };
    set(true);
    const std::string why = refusal(controller_->migrate("direct:a:2"));
    EXPECT_THAT(why, HasSubstr("'" + std::string(each) + "' cannot be used with 'direct:'"));
    EXPECT_EQ(controller_->status().state, State::failed);
    EXPECT_TRUE(controller_->migrate("tcp:a:2")) << "elsewhere it can";
    wait_for_failure();
    set(false);
    EXPECT_TRUE(controller_->migrate("direct:a:2"));
    wait_for_failure();
  }
}

TEST_F(VmControllerTest, NothingGoesOnWhereNothingWaits) {
  EXPECT_FALSE(controller_->proceed());
  ASSERT_TRUE(controller_->migrate("tcp:a:2"));
  wait_for_failure();
  EXPECT_FALSE(controller_->proceed());
}

TEST_F(VmControllerTest, NewestBlockerIsTheErrorUntilItIsTakenAway) {
  ASSERT_TRUE(controller_->block("a device is busy"));
  ASSERT_TRUE(controller_->block("a disk is local"));
  EXPECT_THAT(refusal(controller_->migrate("tcp:a:2")), HasSubstr("a disk is local"));
  controller_->unblock("a disk is local");
  EXPECT_THAT(refusal(controller_->migrate("tcp:a:2")), HasSubstr("a device is busy"));
  controller_->unblock("a device is busy");
  controller_->unblock("nobody said this");
  EXPECT_TRUE(controller_->migrate("tcp:a:2"));
  wait_for_failure();
}

TEST_F(VmControllerTest, UnmigratableSectionBlocks) {
  class Stuck final : public SectionHandler {
   public:
    SectionId id() const override { return {"stuck", 0, 1}; }
    std::string blocker() const override { return why; }
    Result<> attach(SlotLink*) override {
      attached = true;
      return {};
    }
    Result<> finish(SectionWriter&) override { return {}; }
    Result<> load(SectionReader&, std::uint32_t, SectionPart) override { return {}; }
    std::string why = "device 'stuck' cannot be saved";
    bool attached = false;
  } section;
  const auto registered = *sections_.add(section);
  EXPECT_THAT(refusal(controller_->migrate("tcp:a:2")), HasSubstr("'stuck' cannot be saved"));
  section.why.clear();
  EXPECT_TRUE(controller_->migrate("tcp:a:2"));
  wait_for_failure();
  EXPECT_FALSE(section.attached) << "nothing is begun before there is a link";
}

TEST_F(VmControllerTest, ObserversMayComeAndGoAndHearOfErrorsAndCleanup) {
  struct Late final : VmObserver {
    void on_error(const Error& error) noexcept override { heard.push_back(error.doing); }
    void on_cleanup() noexcept override { heard.push_back("cleanup"); }
    std::vector<std::string> heard;
  } late;
  controller_->observe(late);
  ASSERT_TRUE(controller_->migrate("tcp:a:2"));
  wait_for_failure();
  EXPECT_THAT(late.heard, ElementsAre("connecting to nobody", "cleanup"));
  controller_->forget(late);
  ASSERT_TRUE(controller_->migrate("tcp:a:2"));
  wait_for_failure();
  EXPECT_EQ(late.heard.size(), 2u);
}

TEST_F(VmControllerTest, SettingsSurviveAMigrationAndStatisticsDoNot) {
  ASSERT_TRUE(controller_->parameters().set({{"max-bandwidth", 5}, {"xbzrle-cache-size", 8192}}));
  ASSERT_TRUE(controller_->capabilities().set({{{"capability", "events"}, {"state", true}}}));
  ASSERT_TRUE(controller_->migrate("tcp:a:2"));
  wait_for_failure();
  EXPECT_EQ(controller_->parameters().integer("max-bandwidth"), 5);
  EXPECT_EQ(controller_->page_coding().cache_bytes, 8192u);
  EXPECT_TRUE(controller_->capabilities().on("events"));
  ASSERT_TRUE(controller_->migrate("tcp:a:2"));
  EXPECT_EQ(controller_->status().round, 0u);
  wait_for_failure();
}

TEST_F(VmControllerTest, AnnouncesAsOftenAsItWasAsked) {
  controller_->announce({.initial = {}, .most = {}, .step = std::chrono::milliseconds(1), .rounds = 3});
  EXPECT_EQ(announced_.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  EXPECT_EQ(announcements_, 3u);
}

TEST(AnnounceDelay, GrowsByStepsUpToTheMost) {
  const AnnounceSchedule schedule;
  std::vector<std::int64_t> delays;
  for (unsigned round = 0; round < 8; ++round) delays.push_back(announce_delay(schedule, round).count());
  EXPECT_THAT(delays, ElementsAre(50, 50, 150, 250, 350, 450, 550, 550));
}

class MonitorTest : public VmControllerTest {
 protected:
  MonitorTest() {
    add_standard_commands(table_, {.controller = *controller_,
                                   .sections = sections_,
                                   .name = "vm",
                                   .version = {},
                                   .quit = [] {},
                                   .descriptors = descriptors_});
    registered_ = *sections_.add(memory_);
  }
  /// The answer, or the error's words.
  json ask(const char* command, const json& arguments = json::object()) {
    const auto result = table_.run(command, arguments, caller_);
    return result ? *result : json(result.error().desc);
  }

  class Memory final : public SectionHandler {
   public:
    SectionId id() const override { return {"memory", 0, 1}; }
    Result<> finish(SectionWriter&) override { return {}; }
    Result<> load(SectionReader&, std::uint32_t, SectionPart) override { return {}; }
    void report(Progress& into) const override {
      into.bytes_total += 1 << 20;
      into.page_bytes = 4096;
    }
  } memory_;
  SectionRegistry::Registration registered_;
  GivenDescriptors descriptors_;
  QmpCommandTable table_;
  QmpCaller caller_;
};

TEST_F(MonitorTest, OldSpeedAndDowntimeClamp) {
  const auto limit = [this](const char* name) { return controller_->parameters().integer(name); };
  ask("migrate_set_speed", {{"value", 1000}});
  EXPECT_EQ(limit("max-bandwidth"), 1000);
  for (const json& none : {json(0), json(-1), json(std::numeric_limits<std::int64_t>::min())}) {
    ask("migrate_set_speed", {{"value", 1000}});
    EXPECT_EQ(ask("migrate_set_speed", {{"value", none}}), json::object());
    EXPECT_EQ(limit("max-bandwidth"), 0) << "no limit";
  }
  ask("migrate_set_speed", {{"value", std::numeric_limits<std::uint64_t>::max()}});
  EXPECT_EQ(limit("max-bandwidth"), std::numeric_limits<std::int64_t>::max());
  ask("migrate_set_downtime", {{"value", 0.05}});
  EXPECT_EQ(limit("downtime-limit"), 50);
  ask("migrate_set_downtime", {{"value", -3}});
  EXPECT_EQ(limit("downtime-limit"), 0);
  ask("migrate_set_downtime", {{"value", 1e300}});
  EXPECT_EQ(limit("downtime-limit"), 2'000'000);
}

TEST_F(MonitorTest, OldCacheSizeHasThreeRefusalsAndIsRounded) {
  EXPECT_THAT(ask("migrate-set-cache-size", {{"value", -1}}).dump(), HasSubstr("host can address"));
  EXPECT_THAT(ask("migrate-set-cache-size", {{"value", std::uint64_t{1} << 63}}).dump(),
              HasSubstr("host can address"));
  EXPECT_THAT(ask("migrate-set-cache-size", {{"value", (1 << 20) + 1}}).dump(), HasSubstr("guest's RAM"));
  EXPECT_THAT(ask("migrate-set-cache-size", {{"value", 4095}}).dump(), HasSubstr("size of a page"));
  EXPECT_EQ(ask("query-migrate-cache-size"), 64 << 20) << "nothing changed";
  EXPECT_EQ(ask("migrate-set-cache-size", {{"value", 20000}}), json::object());
  EXPECT_EQ(ask("query-migrate-cache-size"), 16384);
}

TEST_F(MonitorTest, DescriptorsGoFromTheCallerUnderAName) {
  EXPECT_THAT(ask("getfd", {{"fdname", "x"}}).dump(), HasSubstr("No file descriptor supplied"));
  const auto give = [this] { caller_.descriptors.emplace_back(::dup(0)); };
  give();
  EXPECT_THAT(ask("getfd", {{"fdname", "5x"}}).dump(), HasSubstr("not starting with a digit"));
  EXPECT_TRUE(caller_.descriptors.empty()) << "it is gone, as at QEMU";
  give();
  EXPECT_EQ(ask("getfd", {{"fdname", "x"}}), json::object());
  EXPECT_TRUE(descriptors_.take("x"));
  EXPECT_FALSE(descriptors_.take("x"));
  give();
  ask("getfd", {{"fdname", "y"}});
  EXPECT_EQ(ask("closefd", {{"fdname", "y"}}), json::object());
  EXPECT_THAT(ask("closefd", {{"fdname", "y"}}).dump(), HasSubstr("'y' not found"));
}

TEST_F(MonitorTest, AnnounceSelfChecksItsRanges) {
  const json good = {{"initial", 0}, {"max", 0}, {"rounds", 3}, {"step", 1}};
  json bad = good;
  bad["rounds"] = 1001;
  EXPECT_THAT(ask("announce-self", bad).dump(), HasSubstr("announce-rounds"));
  EXPECT_EQ(ask("announce-self", good), json::object());
  EXPECT_EQ(announced_.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST_F(MonitorTest, MigrateSaysWhichDisksGoAlong) {
  const auto mode_after = [this](const json& more) {
    json arguments = {{"uri", "tcp:a:2"}};
    arguments.update(more);
    EXPECT_EQ(ask("migrate", arguments), json::object());
    wait_for_failure();
    return controller_->disk_mode();
  };
  EXPECT_EQ(mode_after({{"detach", true}}), DiskMode::none);
  EXPECT_EQ(mode_after({{"blk", true}}), DiskMode::whole);
  EXPECT_EQ(mode_after({{"blk", true}, {"inc", true}}), DiskMode::incremental);
  EXPECT_EQ(mode_after({{"inc", true}}), DiskMode::incremental);
  ask("migrate-set-parameters", {{"block-incremental", true}});
  EXPECT_EQ(mode_after(json::object()), DiskMode::none);
  ask("migrate-set-parameters", {{"block-incremental", false}});
  ask("migrate-set-capabilities", {{"capabilities", {{{"capability", "block"}, {"state", true}}}}});
  EXPECT_EQ(mode_after(json::object()), DiskMode::whole);
  ask("migrate-set-parameters", {{"block-incremental", true}});
  EXPECT_EQ(mode_after(json::object()), DiskMode::incremental);
  for (const char* each : {"blk", "inc"})
    EXPECT_THAT(ask("migrate", {{"uri", "tcp:a:2"}, {each, true}}).dump(), HasSubstr("incompatible"));
}

TEST_F(MonitorTest, ContinueNamesTheStateItIsFor) {
  EXPECT_EQ(ask("migrate-continue", {{"state", "none"}}), json::object())
      << "as at QEMU: true, and nothing to do";
  EXPECT_THAT(ask("migrate-continue", {{"state", "pre-switchover"}}).dump(),
              HasSubstr("not in expected state: none"));
  EXPECT_THAT(ask("migrate-continue", {{"state", "bogus"}}).dump(),
              HasSubstr("does not accept value 'bogus'"));
}

TEST_F(VmControllerTest, NothingBeginsAfterShutDown) {
  controller_->shut_down();
  EXPECT_NE(refusal(controller_->migrate("tcp:a:2")), "");
  ASSERT_TRUE(controller_->expect_incoming());
  EXPECT_NE(refusal(controller_->migrate_incoming("tcp::2")), "");
}

TEST(RunStates, HaveQemusNames) {
  for (const RunState state :
       {RunState::inmigrate, RunState::finish_migrate, RunState::postmigrate, RunState::colo})
    EXPECT_EQ(parse_run_state(to_string(state)), state);
  EXPECT_EQ(parse_run_state("finish-migrate"), RunState::finish_migrate);
  EXPECT_FALSE(parse_run_state("nosuch"));
  for (const RunState state : {RunState::debug, RunState::restore_vm, RunState::guest_panicked})
    EXPECT_TRUE(GlobalStateSection::is_known(to_string(state)));
}

/// The keys that a QEMU 7.2 gives in each state.
TEST(DescribeMigration, HasQemusKeysInEachState) {
  const auto keys = [](Status status) {
    std::vector<std::string> names;
    const json info = describe_migration(status);
    for (const auto& [name, value] : info.items()) names.push_back(name);
    return names;
  };
  Status status;
  EXPECT_THAT(keys(status), ElementsAre());
  status.state = State::setup;
  EXPECT_THAT(keys(status), ElementsAre("status", "x-ramferry"));
  status.state = State::active;
  EXPECT_THAT(keys(status),
              ElementsAre("expected-downtime", "ram", "setup-time", "status", "total-time", "x-ramferry"));
  status.state = State::pre_switchover;
  EXPECT_THAT(keys(status),
              ElementsAre("expected-downtime", "ram", "setup-time", "status", "total-time", "x-ramferry"));
  status.state = State::completed;
  EXPECT_THAT(keys(status),
              ElementsAre("downtime", "ram", "setup-time", "status", "total-time", "x-ramferry"));
  status.state = State::cancelled;
  EXPECT_THAT(keys(status), ElementsAre("status", "x-ramferry"));
  status.state = State::failed;
  status.error = Error{make_error_code(errc::peer_gone), "sending", {}};
  EXPECT_THAT(keys(status), ElementsAre("error-desc", "status", "x-ramferry"));
}

TEST(DescribeMigration, TellsOfWhatIsInUseAsQemuDoes) {
  Status status;
  status.state = State::active;
  json info = describe_migration(status);
  for (const char* absent : {"xbzrle-cache", "compression", "disk", "cpu-throttle-percentage"})
    EXPECT_FALSE(info.contains(absent)) << absent;
  EXPECT_EQ(info["ram"]["mbps"], -1) << "nothing was measured yet";
  status.xbzrle =
      XbzrleCounts{.cache_bytes = 1 << 20, .bytes = 1000, .pages = 6, .cache_misses = 3, .overflows = 1};
  status.compression = CompressionCounts{.pages = 10, .bytes = 4096};
  status.disk = DiskCounts{.transferred = 1, .remaining = 2, .total = 3};
  status.throttle_percent = 30;
  info = describe_migration(status);
  EXPECT_EQ(info["xbzrle-cache"]["cache-miss-rate"], 0.3);
  EXPECT_EQ(info["xbzrle-cache"]["cache-size"], 1 << 20);
  EXPECT_EQ(info["compression"]["compression-rate"], 10.0);
  EXPECT_EQ(info["disk"]["remaining"], 2);
  EXPECT_EQ(info["cpu-throttle-percentage"], 30);
  status.state = State::device;
  EXPECT_EQ(describe_migration(status)["status"], "active");
  status.waited_before_switchover = true;
  EXPECT_EQ(describe_migration(status)["status"], "device");
  status.state = State::pre_switchover;
  EXPECT_EQ(describe_migration(status)["status"], "pre-switchover");
  status.state = State::completed;
  EXPECT_FALSE(describe_migration(status).contains("disk"));
  EXPECT_TRUE(describe_migration(status).contains("xbzrle-cache"));
}

TEST(DescribeMigration, RamHasAllOfQemusMembers) {
  Status status;
  status.state = State::active;
  const json ram = describe_migration(status)["ram"];
  for (const char* name : {"total", "postcopy-requests", "dirty-sync-count", "multifd-bytes",
                           "pages-per-second", "downtime-bytes", "page-size", "remaining", "postcopy-bytes",
                           "mbps", "transferred", "dirty-sync-missed-zero-copy", "precopy-bytes", "duplicate",
                           "dirty-pages-rate", "skipped", "normal-bytes", "normal"})
    EXPECT_TRUE(ram.contains(name)) << name;
}

}  // namespace
}  // namespace ramferry::migration
