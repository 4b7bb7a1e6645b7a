// SPDX-License-Identifier: MIT
// The monitor's standard commands and events, over a VmController.
#pragma once

#include <ramferry/migration/given_descriptors.hpp>
#include <ramferry/migration/qmp_command.hpp>
#include <ramferry/migration/qmp_server.hpp>
#include <ramferry/migration/vm_controller.hpp>

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <string>

namespace ramferry::migration {

struct QmpVm {
  VmController& controller;
  const SectionRegistry& sections;
  std::string name;  ///< of the VM; may be empty
  QmpVersion version{};
  std::function<void()> quit;     ///< ends the VM; returns at once
  GivenDescriptors& descriptors;  ///< where getfd puts what fd:NAME finds
};
/// Adds one command after another to `table`, which they are kept in; `vm.controller` outlives it.
void add_standard_commands(QmpCommandTable& table, const QmpVm& vm);

/// A migration's state by the name under which QEMU tells it.
std::string_view qmp_state(const Status& status) noexcept;
/// query-migrate's answer.
nlohmann::json describe_migration(const Status& status);

/// Turns what a controller's observers hear into events.
class QmpEvents final : public VmObserver {
 public:
  using Emit = std::function<void(std::string_view event, const nlohmann::json& data)>;
  /// Borrows `capabilities`: MIGRATION and MIGRATION_PASS are told only with the capability "events".
  QmpEvents(const MigrationCapabilities& capabilities, Emit emit);
  void on_run_state(RunState from, RunState to) noexcept override;
  void on_state(State from, State to) noexcept override;
  void on_round_begin(std::uint32_t round) noexcept override;

 private:
  const MigrationCapabilities& capabilities_;
  Emit emit_;
};

}  // namespace ramferry::migration
