// SPDX-License-Identifier: MIT
// Two VMs under their controllers, and a migration from one to the other: what is asked of the guest and of
// the sections, in what order, and in which run state each VM is afterwards.
#include "migration_rig.hpp"
#include "support/loopback_channel.hpp"

#include <ramferry/migration/vm_controller.hpp>

#include <gmock/gmock.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

namespace ramferry::test {
namespace {

using namespace ramferry::migration;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kPatience = std::chrono::seconds(60);

class Diary {
 public:
  void add(std::string what) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(what));
  }
  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

class DiaryGuest final : public GuestControl {
 public:
  explicit DiaryGuest(Diary& diary) : diary_(diary) {}
  Result<> pause() override {
    diary_.add("pause");
    if (stubborn) return fail(errc::in_use, "draining a device");
    running_ = false;
    return {};
  }
  Result<> resume() override {
    diary_.add("resume");
    running_ = true;
    return {};
  }
  bool running() const noexcept override { return running_; }
  void wake_up() override { diary_.add("wake up"); }

  std::atomic<bool> stubborn = false;  ///< cannot be paused

 private:
  Diary& diary_;
  std::atomic<bool> running_ = false;
};

/// A number that is sent again and again while the guest runs.
class CountingSection final : public SectionHandler {
 public:
  explicit CountingSection(Diary& diary) : diary_(diary) {}
  SectionId id() const override { return {"counting", 0, 1}; }
  bool live() const noexcept override { return true; }
  Result<> attach(SlotLink* /*link*/) override {
    diary_.add("attach");
    return {};
  }
  Result<> iterate(SectionWriter& out) { return out.u32(++sent_); }
  Result<Pending> iterate(SectionWriter& out, const Budget& /*budget*/) override {
    RAMFERRY_TRY(iterate(out));
    return pending(false);
  }
  Result<> begin(SectionWriter& out) override { return iterate(out); }
  Result<Pending> pending(bool /*exact*/) override { return Pending{endless ? 1U << 20 : 0U, !endless}; }
  Result<> finish(SectionWriter& out) override { return iterate(out); }
  Result<> load(SectionReader& in, std::uint32_t /*version*/, SectionPart /*part*/) override {
    RAMFERRY_TRY(in.u32());
    return {};
  }
  void cancel() noexcept override { diary_.add("cancel"); }
  void cleanup() noexcept override { diary_.add("cleanup"); }

  std::atomic<bool> endless = false;

 private:
  Diary& diary_;
  std::uint32_t sent_ = 0;
};

class Vm final : public IncomingSteps, public VmObserver {
 public:
  Vm(const TransportCatalog& transports, Log& log)
      : controller({guest, sections_, *this, transports, clock_, log}) {
    controller.observe(*this);
    add(counting);
    add(controller.global_state());
  }
  ~Vm() override { controller.shut_down(); }
  void add(SectionHandler& section) { registrations_.push_back(*sections_.add(section)); }
  /// The run state is told by `section` in place of the controller's own.
  void tell_run_state_by(GlobalStateSection& section) {
    registrations_.pop_back();
    add(section);
  }

  void on_connected(const Facts& /*facts*/) noexcept override { diary.add("connected"); }
  void on_error(const Error& error) noexcept override { diary.add("error: " + error.message()); }
  void on_state(State /*from*/, State to) noexcept override { states.add(std::string(to_string(to))); }
  void on_round_begin(std::uint32_t round) noexcept override { states.add(std::to_string(round)); }
  void on_run_state(RunState /*from*/, RunState to) noexcept override {
    states.add(std::string(to_string(to)));
  }

  Status ended() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (controller.migrating() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_FALSE(controller.migrating());
    return controller.status();
  }
  void reach(State state) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (controller.status().state != state && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    ASSERT_EQ(controller.status().state, state);
  }

  Diary diary, states;
  DiaryGuest guest{diary};
  CountingSection counting{diary};

 private:
  SystemClock clock_;
  SectionRegistry sections_;
  std::vector<SectionRegistry::Registration> registrations_;

 public:
  VmController controller;
};

class VmPairTest : public ::testing::Test {
 protected:
  VmPairTest() {
    transports_.add(std::make_unique<PairTransport>([this](SessionId session) {
      std::this_thread::sleep_for(connecting_takes_);
      return make_loopback_pair({.session = session});
    }));
    expect(destination);
  }
  static void expect(Vm& vm) {
    EXPECT_TRUE(vm.controller.expect_incoming());
    EXPECT_TRUE(vm.controller.migrate_incoming("unix:/here"));
  }
  /// How it ended at the source.
  Status migrate() {
    EXPECT_TRUE(source.controller.migrate("unix:/here"));
    const Status status = source.ended();
    if (status.state == State::completed) destination.ended();
    return status;
  }

  NullLog log_;
  TransportCatalog transports_;
  std::chrono::milliseconds connecting_takes_{0};
  Vm source{transports_, log_}, destination{transports_, log_};
};

TEST_F(VmPairTest, GuestIsWokenThenPausedThenGivenAway) {
  ASSERT_TRUE(source.controller.cont());
  EXPECT_EQ(migrate().state, State::completed);
  EXPECT_THAT(source.diary.lines(),
              ElementsAre("resume", "connected", "attach", "wake up", "pause", "cleanup"));
  EXPECT_THAT(source.states.lines(), ElementsAre("running", "setup", "1", "active", "2", "device",
                                                 "finish-migrate", "3", "completed", "postmigrate"));
  EXPECT_THAT(destination.diary.lines(), ElementsAre("connected", "attach", "resume", "cleanup"));
  EXPECT_EQ(destination.controller.run_state(), RunState::running);
}

TEST_F(VmPairTest, GuestThatCannotBePausedStaysAndRuns) {
  ASSERT_TRUE(source.controller.cont());
  source.guest.stubborn = true;
  const Status status = migrate();
  EXPECT_EQ(status.state, State::failed);
  EXPECT_THAT(status.error->message(), AllOf(HasSubstr("pausing the guest"), HasSubstr("draining a device")));
  EXPECT_TRUE(source.guest.running());
  EXPECT_EQ(source.controller.run_state(), RunState::running);
  EXPECT_EQ(source.diary.lines().back(), "cleanup");
  EXPECT_THAT(source.diary.lines(), Contains(HasSubstr("error: pausing the guest")));
  destination.ended();
  EXPECT_THAT(destination.diary.lines(), Not(Contains("resume")));
}

TEST_F(VmPairTest, RunStateWhoseNameIsTooLongIsAnErrorAndTheGuestRunsAgain) {
  GlobalStateSection talkative([] { return std::string(40, 'z'); }, log_);
  source.tell_run_state_by(talkative);
  ASSERT_TRUE(source.controller.cont());
  const Status status = migrate();
  EXPECT_EQ(status.state, State::failed);
  EXPECT_THAT(status.error->message(), HasSubstr("name is too long"));
  EXPECT_EQ(source.controller.run_state(), RunState::running);
  EXPECT_TRUE(source.guest.running());
}

TEST_F(VmPairTest, UnknownRunStateFailsTheLoad) {
  GlobalStateSection dreamer([] { return std::string("dreaming"); }, log_);
  source.tell_run_state_by(dreamer);
  ASSERT_TRUE(source.controller.cont());
  EXPECT_THAT(migrate().error->message(), HasSubstr("unknown run state 'dreaming'"));
  EXPECT_TRUE(source.guest.running());
  EXPECT_EQ(destination.ended().state, State::failed);
  EXPECT_EQ(destination.controller.run_state(), RunState::inmigrate);
  EXPECT_THAT(destination.diary.lines(), Not(Contains("resume")));
}

class OtherRunStates : public VmPairTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(OtherRunStates, AreEnteredAsSent) {
  GlobalStateSection told([] { return std::string(GetParam()); }, log_);
  source.tell_run_state_by(told);
  ASSERT_TRUE(source.controller.cont());
  EXPECT_EQ(migrate().state, State::completed);
  EXPECT_EQ(to_string(destination.controller.run_state()), GetParam());
  EXPECT_FALSE(destination.guest.running());
}
INSTANTIATE_TEST_SUITE_P(Each, OtherRunStates,
                         ::testing::Values("debug", "inmigrate", "internal-error", "io-error", "paused",
                                           "postmigrate", "prelaunch", "finish-migrate", "restore-vm",
                                           "save-vm", "shutdown", "suspended", "watchdog", "guest-panicked",
                                           "colo"));

TEST_F(VmPairTest, GuestOfWhichNothingIsToldRunsUnlessToldNotTo) {
  source.controller.global_state().set_optional(true);
  ASSERT_TRUE(source.controller.cont());
  EXPECT_EQ(migrate().state, State::completed);
  EXPECT_FALSE(destination.controller.global_state().loaded());
  EXPECT_EQ(destination.controller.run_state(), RunState::running);

  Vm first(transports_, log_), second(transports_, log_);
  expect(second);
  ASSERT_TRUE(second.controller.stop()) << "not to start by itself";
  first.controller.global_state().set_optional(true);
  ASSERT_TRUE(first.controller.cont());
  ASSERT_TRUE(first.controller.migrate("unix:/here"));
  EXPECT_EQ(first.ended().state, State::completed);
  EXPECT_EQ(second.ended().state, State::completed);
  EXPECT_EQ(second.controller.run_state(), RunState::paused);
  EXPECT_FALSE(second.guest.running());
}

TEST_F(VmPairTest, SectionsHearOfACancelAndTheGuestRunsOn) {
  source.counting.endless = true;
  ASSERT_TRUE(source.controller.cont());
  ASSERT_TRUE(source.controller.migrate("unix:/here"));
  source.reach(State::active);
  EXPECT_THAT(source.controller.block("too late").error().message(), HasSubstr("under way"));
  source.controller.cancel();
  EXPECT_EQ(source.ended().state, State::cancelled);
  EXPECT_THAT(source.diary.lines(),
              ElementsAre("resume", "connected", "attach", HasSubstr("error: "), "cancel", "cleanup"));
  EXPECT_TRUE(source.guest.running());
  source.controller.cancel();
  EXPECT_EQ(source.controller.status().state, State::cancelled) << "nothing more happens";
}

TEST_F(VmPairTest, GuestThatDidNotRunDoesNotAfterACancelEither) {
  ASSERT_TRUE(
      source.controller.capabilities().set({{{"capability", "pause-before-switchover"}, {"state", true}}}));
  ASSERT_TRUE(source.controller.migrate("unix:/here"));
  source.reach(State::pre_switchover);
  source.controller.cancel();
  EXPECT_EQ(source.ended().state, State::cancelled);
  EXPECT_FALSE(source.guest.running());
  EXPECT_EQ(source.controller.run_state(), RunState::prelaunch);
}

TEST_F(VmPairTest, WaitsBeforeTheSwitchoverUntilLetGoOnEachTime) {
  const auto pause = [](Vm& vm) {
    return vm.controller.capabilities().set({{{"capability", "pause-before-switchover"}, {"state", true}}});
  };
  ASSERT_TRUE(pause(source));
  ASSERT_TRUE(source.controller.cont());
  ASSERT_TRUE(source.controller.migrate("unix:/here"));
  source.reach(State::pre_switchover);
  source.controller.cancel();
  EXPECT_EQ(source.ended().state, State::cancelled);
  EXPECT_FALSE(source.controller.proceed());
  EXPECT_TRUE(source.guest.running());

  Vm other(transports_, log_);
  expect(other);
  ASSERT_TRUE(source.controller.migrate("unix:/here"));
  source.reach(State::pre_switchover);
  EXPECT_EQ(source.controller.run_state(), RunState::finish_migrate);
  EXPECT_EQ(source.controller.status().rounds_begun, 2U) << "and the switchover's has not begun";
  ASSERT_TRUE(source.controller.proceed());
  EXPECT_EQ(source.ended().state, State::completed);
  EXPECT_EQ(other.ended().state, State::completed);
  EXPECT_TRUE(other.guest.running());
}

TEST_F(VmPairTest, ConnectingCountsForTheWholeTimeAndNotForTheSetup) {
  connecting_takes_ = std::chrono::milliseconds(200);
  const Status status = migrate();
  ASSERT_EQ(status.state, State::completed);
  EXPECT_GE(status.total_time - status.setup_time, connecting_takes_);
}

TEST_F(VmPairTest, ANewMigrationAfterOneThatCompletedStartsClean) {
  ASSERT_TRUE(source.controller.parameters().set({{"max-bandwidth", 5'000'000}}));
  ASSERT_TRUE(source.controller.capabilities().set({{{"capability", "events"}, {"state", true}}}));
  ASSERT_TRUE(source.controller.cont());
  const Status first = migrate();
  ASSERT_EQ(first.state, State::completed);
  ASSERT_TRUE(source.controller.cont(true));

  Vm other(transports_, log_);
  expect(other);
  ASSERT_TRUE(source.controller.migrate("unix:/here"));
  const Status second = source.ended();
  EXPECT_EQ(second.state, State::completed);
  EXPECT_EQ(second.rounds_begun, first.rounds_begun);
  EXPECT_EQ(second.stream.wire_bytes_sent, first.stream.wire_bytes_sent);
  EXPECT_NE(second.session.to_string(), first.session.to_string());
  EXPECT_EQ(source.controller.parameters().integer("max-bandwidth"), 5'000'000);
  EXPECT_TRUE(source.controller.capabilities().on("events"));
}

}  // namespace
}  // namespace ramferry::test
