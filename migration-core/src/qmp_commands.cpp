// SPDX-License-Identifier: MIT
#include <ramferry/migration/qmp_commands.hpp>

#include <nlohmann/json.hpp>

#include <utility>

namespace ramferry::migration {
namespace {

using nlohmann::json;

/// One function per command; the table at the end names them.
class Commands {
 public:
  explicit Commands(QmpVm vm) : vm_(std::move(vm)) {}

  QmpResult query_version() const { return to_json(vm_.version); }

  QmpResult query_name() const { return vm_.name.empty() ? json::object() : json{{"name", vm_.name}}; }

  QmpResult query_status() const {
    const RunState state = vm_.controller.run_state();
    return json{{"status", to_string(state)}, {"running", state == RunState::running}, {"singlestep", false}};
  }

  QmpResult stop() const { return qmp_result(vm_.controller.stop()); }

  QmpResult cont(const json& arguments) const {
    return qmp_result(vm_.controller.cont(arguments.value("x-ramferry-force", false)));
  }

  QmpResult quit() const {
    vm_.quit();
    return json::object();
  }

  QmpResult migrate(const json& arguments) const {
    if (arguments.value("blk", false) || arguments.value("inc", false))
      return qmp_fail("Parameter 'blk' is not supported: this VM has no disks");
    if (arguments.value("resume", false)) return qmp_fail("Cannot resume: there is no paused migration");
    return qmp_result(vm_.controller.migrate(arguments["uri"]));
  }

  QmpResult migrate_incoming(const json& arguments) const {
    return qmp_result(vm_.controller.migrate_incoming(arguments["uri"]));
  }

  QmpResult migrate_cancel() const {
    vm_.controller.cancel();
    return json::object();
  }

  QmpResult query_migrate() const {
    json info = describe_migration(vm_.controller.status());
    const auto at = vm_.controller.incoming_address();
    if (!at) return info;
    json address = {{"type", at->scheme == "unix" ? "unix" : "inet"}};
    if (at->scheme == "unix") {
      address["path"] = at->target;
    } else {
      address["host"] = at->host;
      address["port"] = std::to_string(at->port);
    }
    info["socket-address"] = json::array({std::move(address)});
    info["x-ramferry-uri"] = at->to_string();
    return info;
  }

  QmpResult set_parameters(const json& arguments) const {
    return qmp_result(vm_.controller.parameters().set(arguments));
  }
  QmpResult query_parameters() const { return vm_.controller.parameters().all(); }

  QmpResult set_capabilities(const json& arguments) const {
    if (vm_.controller.migrating()) return qmp_fail("There's a migration process in progress");
    return qmp_result(vm_.controller.capabilities().set(arguments["capabilities"]));
  }
  QmpResult query_capabilities() const { return vm_.controller.capabilities().all(); }

 private:
  QmpVm vm_;
};

QmpResult list_commands(const QmpCommandTable& table) {
  json names = json::array({{{"name", "qmp_capabilities"}}});
  for (const QmpCommand& command : table.commands()) names.push_back({{"name", command.name}});
  return names;
}

QmpResult list_events(const QmpCommandTable& table) {
  json names = json::array();
  for (const std::string& event : table.events()) names.push_back({{"name", event}});
  return names;
}

}  // namespace

void add_standard_commands(QmpCommandTable& table, const QmpVm& vm) {
  const auto commands = std::make_shared<const Commands>(vm);
  const auto plain = [&](const char* name, QmpResult (Commands::*run)() const) {
    table.add({.name = name, .run = [commands, run](const json&) { return (*commands.*run)(); }});
  };
  const auto with = [&](const char* name, std::vector<QmpArgument> arguments,
                        QmpResult (Commands::*run)(const json&) const) {
    table.add({.name = name, .arguments = std::move(arguments), .run = [commands, run](const json& given) {
                 return (*commands.*run)(given);
               }});
  };
  constexpr bool kOptional = true;
  plain("query-version", &Commands::query_version);
  plain("query-name", &Commands::query_name);
  plain("query-status", &Commands::query_status);
  plain("stop", &Commands::stop);
  with("cont", {{"x-ramferry-force", QmpType::boolean, kOptional}}, &Commands::cont);
  plain("quit", &Commands::quit);
  with("migrate",
       {{"uri", QmpType::string},
        {"blk", QmpType::boolean, kOptional},
        {"inc", QmpType::boolean, kOptional},
        {"detach", QmpType::boolean, kOptional},
        {"resume", QmpType::boolean, kOptional}},
       &Commands::migrate);
  with("migrate-incoming", {{"uri", QmpType::string}}, &Commands::migrate_incoming);
  plain("migrate_cancel", &Commands::migrate_cancel);
  plain("query-migrate", &Commands::query_migrate);
  table.add({.name = "migrate-set-parameters",
             .run = [commands](const json& given) { return commands->set_parameters(given); },
             .checks_arguments = true});
  plain("query-migrate-parameters", &Commands::query_parameters);
  with("migrate-set-capabilities", {{"capabilities", QmpType::array}}, &Commands::set_capabilities);
  plain("query-migrate-capabilities", &Commands::query_capabilities);
  table.add({.name = "query-commands", .run = [&table](const json&) { return list_commands(table); }});
  table.add({.name = "query-events", .run = [&table](const json&) { return list_events(table); }});
  for (const char* event : {"STOP", "RESUME", "MIGRATION", "MIGRATION_PASS", "SHUTDOWN"})
    table.add_event(event);
}

QmpEvents::QmpEvents(const MigrationCapabilities& capabilities, Emit emit)
    : capabilities_(capabilities), emit_(std::move(emit)) {}

void QmpEvents::on_run_state(RunState from, RunState to) noexcept {
  if (from == RunState::running) emit_("STOP", nullptr);
  if (to == RunState::running) emit_("RESUME", nullptr);
}

void QmpEvents::on_state(State /*from*/, State to) noexcept {
  if (capabilities_.on("events")) emit_("MIGRATION", {{"status", to_string(to)}});
}

void QmpEvents::on_round(const RoundReport& round) noexcept {
  if (capabilities_.on("events")) emit_("MIGRATION_PASS", {{"pass", round.round}});
}

}  // namespace ramferry::migration
