// SPDX-License-Identifier: MIT
// A reference VM with its monitor, from its birth to its end: what `ramferry vm` is.
#pragma once

#include "signals.hpp"
#include "stall.hpp"
#include "vm/disk_section.hpp"
#include "vm/reference_vm.hpp"

#include <ramferry/error.hpp>
#include <ramferry/log.hpp>
#include <ramferry/migration/dirty_tracker.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace ramferry::cli {

struct VmProcessOptions {
  std::string name;
  std::string monitor;   ///< unix:PATH or tcp:HOST:PORT; empty: none
  std::string incoming;  ///< a URI, "defer", or empty
  bool paused = false;
  bool announce = true;  ///< say on standard error where it waits and where its monitor is
  vm::VmSpec vm{};
  migration::TrackerKind tracker = migration::TrackerKind::automatic;
  std::optional<StallPhase> stall_at;         ///< for tests
  std::chrono::microseconds slow_batches{0};  ///< for tests: wasted on each batch of placements
  bool lose_mark = false;  ///< for tests: one dirty page of the second harvest on is not reported
};

class VmProcess {
 public:
  /// Fails before anything runs: no memory, an address in use, an unreadable file. `log` outlives it.
  static Result<std::unique_ptr<VmProcess>> start(const VmProcessOptions& options, Log& log);
  ~VmProcess();
  /// Serves until `quit`, a signal, or an incoming migration that fails. The exit status.
  int run(StopSignals& signals);

 private:
  class Engine;
  explicit VmProcess(std::unique_ptr<Engine> engine);
  std::unique_ptr<Engine> engine_;
};

}  // namespace ramferry::cli
