// SPDX-License-Identifier: MIT
// The destination side of a migration.
#pragma once

#include <ramferry/clock.hpp>
#include <ramferry/log.hpp>
#include <ramferry/migration/section.hpp>
#include <ramferry/migration/status.hpp>
#include <ramferry/transport.hpp>

#include <chrono>
#include <memory>
#include <string>

namespace ramferry::migration {

struct IncomingSettings {
  std::string machine = "ramferry-1";                   ///< another one in the stream is refused
  std::chrono::milliseconds hand_over_timeout{30'000};  ///< waiting for the source's hello, then for COMMIT
};

/// Steps that the VMM takes between the last loaded byte and running. On the migration thread.
class IncomingHooks {
 public:
  virtual ~IncomingHooks() = default;
  /// All state is loaded, the guest still belongs to the source. Failing here leaves it there.
  virtual Result<> prepare() { return {}; }
  /// The guest is ours: start it (or leave it paused, as its run state says). RUNNING is sent when it
  /// returns; from here nothing can give it back.
  virtual Result<> take_over() = 0;
};

/// When run() returned success the guest is ours and took over; with errc::outcome_unknown it is loaded and
/// stays paused until somebody decides; with any other error it was never ours, except where take_over()
/// itself failed: then status().hand_over is `committed`, and the guest is ours, loaded and paused.
class IncomingMigration {
 public:
  IncomingMigration(SectionRegistry& sections, IncomingHooks& hooks, IncomingSettings settings, Clock& clock,
                    Log& log);
  ~IncomingMigration();
  void observe(Observer& observer);  ///< before run()

  /// Takes one migration from `listener`; once. Blocks the calling thread.
  Result<> run(Listener& listener, std::string uri);

  // Any thread:
  void cancel() noexcept;  ///< no effect after COMMIT arrived
  Status status() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace ramferry::migration
