// SPDX-License-Identifier: MIT
// The controller's inside: what the migration thread and the monitor's threads share.
#pragma once

#include <ramferry/migration/vm_controller.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace ramferry::migration {

/// It stands between a migration and the VMM's own GuestControl, so that run states follow what a migration
/// does.
///
/// Locks: `guest_` before `mutex_`. `guest_` is held while the guest is paused, resumed or handed over;
/// `mutex_` for moments only. No lock is held while observers are told, but for guest_, which keeps what they
/// hear in order.
class VmController::Engine final : public GuestControl, public IncomingHooks {
 public:
  explicit Engine(const VmParts& parts);
  ~Engine() override { shut_down(); }

  void observe(VmObserver& observer) { observers_.push_back(&observer); }
  RunState run_state() const;
  Result<> stop();
  Result<> cont(bool force);
  Result<> migrate(const std::string& uri);
  void expect_incoming();
  Result<> migrate_incoming(const std::string& uri);
  std::optional<Endpoint> incoming_address() const;
  void cancel();
  Status status() const;
  bool migrating() const noexcept { return busy_; }
  void shut_down();

  // GuestControl, for the outgoing migration
  Result<> pause() override;
  Result<> resume() override;
  bool running() const noexcept override { return parts_.guest.running(); }
  void wake_up() override { parts_.guest.wake_up(); }
  void throttle(std::uint8_t percent) override { parts_.guest.throttle(percent); }

  // IncomingHooks
  Result<> prepare() override { return parts_.incoming_steps.prepare(); }
  Result<> take_over() override;

  GlobalStateSection global_state;
  MigrationParameters parameters;
  MigrationCapabilities capabilities;

 private:
  void enter(RunState state);
  Result<> run_guest();
  Result<> check_may_run(RunState state, bool force) const;
  Result<> check_may_migrate() const;
  Result<> check_uri(const std::string& uri) const;
  Limits limits() const;
  void apply_limits();
  void run_outgoing(const std::string& uri);
  void run_incoming(const std::string& uri);

  const VmParts parts_;
  std::vector<VmObserver*> observers_;

  std::mutex starting_;  ///< one migrate() at a time
  std::mutex guest_;
  mutable std::mutex mutex_;
  RunState run_state_ = RunState::prelaunch;
  RunState before_pause_ = RunState::prelaunch;  ///< what a failed migration goes back to
  bool autostart_ = true;                        ///< an incoming guest runs if it ran at the source
  bool refused_ = false;                         ///< the newest migration failed before it began
  bool down_ = false;
  std::unique_ptr<OutgoingMigration> outgoing_;
  std::unique_ptr<IncomingMigration> incoming_;
  std::unique_ptr<Listener> listener_;
  std::atomic<bool> busy_ = false;
  std::thread thread_;
};

}  // namespace ramferry::migration
