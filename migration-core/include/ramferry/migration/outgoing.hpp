// SPDX-License-Identifier: MIT
// The source side of a migration, start to finish.
#pragma once

#include <ramferry/clock.hpp>
#include <ramferry/log.hpp>
#include <ramferry/migration/guest.hpp>
#include <ramferry/migration/section.hpp>
#include <ramferry/migration/status.hpp>
#include <ramferry/transport.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace ramferry::migration {

/// When and how far to slow down a guest that writes faster than the link takes it; percent.
struct Throttling {
  bool on = false;
  unsigned initial = 20, increment = 10, most = 99;
  unsigned trigger = 50;  ///< a round that dirtied more than this share of what it sent is one too many
};

/// May be changed while the migration runs; it looks again at least every 100 ms.
struct Limits {
  std::chrono::milliseconds downtime{300};
  std::uint64_t bandwidth = 0;  ///< bytes/s; 0 = no limit. Never applied to the switchover.
  Throttling throttling{};
};

struct OutgoingSettings {
  Limits limits;
  std::string machine = "ramferry-1";    ///< the name in the stream's configuration section
  std::uint64_t features = 0;            ///< that the destination must have; see native::feature
  bool pause_before_switchover = false;  ///< wait for proceed() once the guest is paused
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds hand_over_timeout{30'000};  ///< waiting for PREPARED, then for RUNNING
};

/// When run() returned, the guest is theirs (success, it stays paused here), ours again and in the run state
/// it had (any other error), or paused here with errc::outcome_unknown.
class OutgoingMigration {
 public:
  /// Everything is borrowed for the lifetime of this object. RAM must be among the sections
  /// (ram_section.hpp).
  OutgoingMigration(GuestControl& guest, SectionRegistry& sections, const TransportCatalog& transports,
                    OutgoingSettings settings, Clock& clock, Log& log);
  ~OutgoingMigration();
  void observe(Observer& observer);  ///< before run()

  /// Connects to `uri` and moves the guest; once. Blocks the calling thread, which is then the migration
  /// thread.
  Result<> run(const std::string& uri);

  // Any thread:
  void
  cancel() noexcept;  ///< returns at once; run() returns errc::cancelled unless COMMIT was being sent already
  void set_limits(const Limits& limits) noexcept;
  /// Ends the wait in State::pre_switchover; nothing in any other state.
  void proceed() noexcept;
  Status status() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace ramferry::migration
