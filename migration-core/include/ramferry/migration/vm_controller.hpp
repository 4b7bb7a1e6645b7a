// SPDX-License-Identifier: MIT
// What a monitor tells a VM to do: stop, cont, migrate, take an incoming migration, cancel; and what it asks.
//
// Runs each migration on a thread of its own, so that every call returns at once, and keeps the VM's run
// state. All calls from any thread, unless said otherwise.
#pragma once

#include <ramferry/clock.hpp>
#include <ramferry/log.hpp>
#include <ramferry/migration/global_state.hpp>
#include <ramferry/migration/guest.hpp>
#include <ramferry/migration/incoming.hpp>
#include <ramferry/migration/outgoing.hpp>
#include <ramferry/migration/page_coding.hpp>
#include <ramferry/migration/section.hpp>
#include <ramferry/migration/settings.hpp>
#include <ramferry/migration/status.hpp>
#include <ramferry/transport.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace ramferry::migration {

/// QEMU's run states, by its names.
enum class RunState : std::uint8_t {
  debug,
  inmigrate,
  internal_error,
  io_error,
  paused,
  postmigrate,
  prelaunch,
  finish_migrate,
  restore_vm,
  running,
  save_vm,
  shutdown,
  suspended,
  watchdog,
  guest_panicked,
  colo,
};
std::string_view to_string(RunState state) noexcept;
std::optional<RunState> parse_run_state(std::string_view name) noexcept;

/// Told what happened, on whichever thread it happened: be quick, do not call back.
class VmObserver : public Observer {
 public:
  virtual void on_run_state(RunState /*from*/, RunState /*to*/) noexcept {}
  /// An incoming migration is over; with an error the guest was never ours, but for errc::outcome_unknown.
  virtual void on_incoming_end(const Result<>& /*result*/) noexcept {}
};

/// The VMM's part in an incoming migration, besides GuestControl. On the migration thread.
class IncomingSteps {
 public:
  virtual ~IncomingSteps() = default;
  /// All state is loaded, the guest still belongs to the source: a failure leaves it there.
  virtual Result<> prepare() { return {}; }
  /// The guest is ours; its CPUs are resumed after this, if they are to run.
  virtual Result<> taken_over() { return {}; }
  /// What this host has cached of shared storage is old: the source wrote to it until now. Before
  /// taken_over(); if it fails the guest does not run.
  virtual Result<> invalidate_storage() { return {}; }
  /// Tell the network where the guest is now. Several times, on a thread of the controller.
  virtual void announce(unsigned /*round*/) {}
};

struct VmParts {
  GuestControl& guest;
  SectionRegistry& sections;
  IncomingSteps& incoming_steps;
  const TransportCatalog& transports;
  Clock& clock;
  Log& log;
};

/// What a migration takes along beside memory and devices.
enum class DiskMode : std::uint8_t {
  none,
  whole,        ///< disk images
  incremental,  ///< of disk images, what differs from a base that the destination has
};

/// How often and when announce() is called: first after `initial`, then each time `step` later than the time
/// before, at most `most`.
struct AnnounceSchedule {
  std::chrono::milliseconds initial{50}, most{550}, step{100};
  unsigned rounds = 5;
};

class VmController {
 public:
  /// Everything is borrowed. The guest is paused; the run state is prelaunch.
  explicit VmController(const VmParts& parts);
  ~VmController();  ///< as shut_down()
  /// Not from within an observer. When forget() returned it is told nothing more.
  void observe(VmObserver& observer);
  void forget(VmObserver& observer);

  RunState run_state() const;
  Result<> stop();
  /// `force`: also when the destination may be running the guest, or has it.
  Result<> cont(bool force = false);

  /// Returns once the migration is under way or was refused.
  Result<> migrate(const std::string& uri, DiskMode disks = DiskMode::none);
  /// No migration may begin until unblock(reason); the newest reason is what migrate() answers.
  /// errc::wrong_state while one is under way.
  Result<> block(std::string reason);
  void unblock(std::string_view reason);
  /// The VM waits for a migration; where from is said later, by migrate_incoming(). Only before it ran, and
  /// once.
  Result<> expect_incoming();
  /// Listens at `uri`. Only after expect_incoming(), and once; again if it could not listen.
  Result<> migrate_incoming(const std::string& uri);
  /// Where an incoming migration is awaited.
  std::optional<Endpoint> incoming_address() const;
  void cancel();
  /// Lets a switchover go on that waits, as the capability pause-before-switchover asks; errc::wrong_state if
  /// none does.
  Result<> proceed();
  Status status() const;

  /// Carries the run state; the VMM adds it to its sections.
  GlobalStateSection& global_state() noexcept;
  MigrationParameters& parameters() noexcept;
  MigrationCapabilities& capabilities() noexcept;
  /// For RamOptions::coding, and for sections of disks: what was asked for.
  PageCoding page_coding() const;
  DiskMode disk_mode() const;
  void announce(const AnnounceSchedule& schedule);
  /// A migration is under way: capabilities are frozen.
  bool migrating() const;

  /// Cancels what is under way and waits for its end. Nothing is migrated after it.
  void shut_down();

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace ramferry::migration
