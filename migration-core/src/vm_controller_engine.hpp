// SPDX-License-Identifier: MIT
// The controller's inside: what the migration thread and the monitor's threads share.
#pragma once

#include "announcer.hpp"

#include <ramferry/migration/vm_controller.hpp>
#include <ramferry/traits.hpp>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace ramferry::migration {

/// The capabilities that a transport brings.
std::span<const SwitchSpec> switches_of(const Transport& transport) noexcept;

/// It stands between a migration and the VMM's own GuestControl, so that run states follow what a migration
/// does.
///
/// Locks: `guest_` before `mutex_`. `guest_` is held while the guest is paused, resumed or handed over;
/// `mutex_` for moments only. `observers_mutex_` is held while observers are told, after any other; guest_
/// keeps what they hear of the guest in order.
class VmController::Engine final : public GuestControl, public IncomingHooks, public Observer {
 public:
  explicit Engine(const VmParts& parts);
  ~Engine() override { shut_down(); }

  void observe(VmObserver& observer);
  void forget(VmObserver& observer);
  RunState run_state() const;
  Result<> stop();
  Result<> cont(bool force);
  Result<> migrate(const std::string& uri, DiskMode disks);
  Result<> block(std::string reason);
  void unblock(std::string_view reason);
  Result<> expect_incoming();
  Result<> migrate_incoming(const std::string& uri);
  std::optional<Endpoint> incoming_address() const;
  void cancel();
  Result<> proceed();
  Status status() const;
  bool migrating() const noexcept { return busy_; }
  PageCoding page_coding() const;
  DiskMode disk_mode() const noexcept { return disk_mode_; }
  void announce(const AnnounceSchedule& schedule) { announcer_.start(schedule); }
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

  // Observer, of every migration
  void on_state(State from, State to) noexcept override;
  void on_connected(const Facts& facts) noexcept override;
  void on_error(const Error& error) noexcept override;
  void on_cleanup() noexcept override;
  void on_round_begin(std::uint32_t round) noexcept override;
  void on_round(const RoundReport& round) noexcept override;

  GlobalStateSection global_state;
  MigrationParameters parameters;
  MigrationCapabilities capabilities;

 private:
  void enter(RunState state);
  Result<> run_guest();
  Result<> check_may_run(RunState state, bool force) const;
  Result<> check_may_migrate() const;
  Result<> check_blockers() const;
  /// Encoded pages go over transports only that do not place them directly.
  Result<> check_coding(const Transport& transport, const std::string& scheme) const;
  /// The address with the options that the transport's switches stand for.
  Result<std::string> complete_uri(const std::string& uri) const;
  Limits limits() const;
  OutgoingSettings outgoing_settings() const;
  AnnounceSchedule announce_schedule() const;
  void apply_limits();
  template <class Tell>
  void tell(Tell each) {
    const std::lock_guard lock(observers_mutex_);
    for (VmObserver* observer : observers_) each(*observer);
  }
  void begin(std::function<void()> run);
  /// An attempt to connect that was given up has until its timeout; who migrates again does not wait for it.
  void retire(std::unique_ptr<OutgoingMigration> old);
  void run_outgoing(const std::string& uri);
  void run_incoming(const std::string& uri);

  const VmParts parts_;
  std::mutex observers_mutex_;
  std::vector<VmObserver*> observers_;
  std::vector<std::string> blockers_;  ///< under mutex_
  std::atomic<DiskMode> disk_mode_ = DiskMode::none;
  Announcer announcer_;

  std::mutex starting_;  ///< one migrate() at a time
  std::mutex guest_;
  mutable std::mutex mutex_;
  RunState run_state_ = RunState::prelaunch;
  RunState before_pause_ = RunState::prelaunch;  ///< what a failed migration goes back to
  bool autostart_ = true;                        ///< an incoming guest runs if it ran at the source
  bool refused_ = false;                         ///< the newest migration failed before it began
  bool down_ = false;
  std::unique_ptr<OutgoingMigration> outgoing_;
  std::vector<std::future<void>> retiring_;
  std::unique_ptr<IncomingMigration> incoming_;
  std::unique_ptr<Listener> listener_;
  std::atomic<bool> busy_ = false;
  std::promise<void> begun_;  ///< who asks for the status after migrate() or migrate_incoming() finds one
  std::thread thread_;
};

}  // namespace ramferry::migration
