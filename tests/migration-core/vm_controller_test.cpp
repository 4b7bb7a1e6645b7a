// SPDX-License-Identifier: MIT
// What a monitor may ask of a VM in each run state, and what query-migrate tells. Migrations that succeed are
// made of processes, in tests/e2e.
#include <ramferry/migration/qmp_commands.hpp>
#include <ramferry/migration/vm_controller.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <condition_variable>
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
class DeadTransport final : public Transport {
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
    controller_.emplace(VmParts{guest_, sections_, *this, transports_, clock_, log_});
    controller_->observe(heard_);
  }
  std::string refusal(const Result<>& result) { return result ? "" : result.error().message(); }
  void wait_for_failure() {
    while (controller_->migrating()) std::this_thread::yield();
    ASSERT_EQ(controller_->status().state, State::failed);
  }

  NullLog log_;
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
  controller_->expect_incoming();
  EXPECT_EQ(controller_->run_state(), RunState::inmigrate);
  ASSERT_TRUE(controller_->cont()) << "as at QEMU: remembered, not done";
  EXPECT_FALSE(guest_.running());
  EXPECT_EQ(refusal(controller_->migrate("tcp:a:2")).rfind("Guest is waiting for an incoming migration", 0),
            0u);
}

TEST_F(VmControllerTest, IncomingIsStartedOnceButRetriedAfterABadAddress) {
  EXPECT_THAT(refusal(controller_->migrate_incoming("tcp::2")), HasSubstr("'-incoming' was not specified"));
  controller_->expect_incoming();
  EXPECT_NE(refusal(controller_->migrate_incoming("tcp::1")), "") << "in use";
  ASSERT_TRUE(controller_->migrate_incoming("tcp::2"));
  EXPECT_EQ(controller_->incoming_address()->port, 2);
  EXPECT_THAT(refusal(controller_->migrate_incoming("tcp::3")), HasSubstr("already been started"));
  controller_->shut_down();
  EXPECT_EQ(controller_->run_state(), RunState::inmigrate);
  EXPECT_EQ(heard_.take().back(), "did not come");
}

TEST_F(VmControllerTest, NothingBeginsAfterShutDown) {
  controller_->shut_down();
  EXPECT_NE(refusal(controller_->migrate("tcp:a:2")), "");
  controller_->expect_incoming();
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
  status.state = State::completed;
  EXPECT_THAT(keys(status),
              ElementsAre("downtime", "ram", "setup-time", "status", "total-time", "x-ramferry"));
  status.state = State::cancelled;
  EXPECT_THAT(keys(status), ElementsAre("status", "x-ramferry"));
  status.state = State::failed;
  status.error = Error{make_error_code(errc::peer_gone), "sending", {}};
  EXPECT_THAT(keys(status), ElementsAre("error-desc", "status", "x-ramferry"));
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
