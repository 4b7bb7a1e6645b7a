// SPDX-License-Identifier: MIT
#include <ramferry/migration/qmp_commands.hpp>
#include <ramferry/migration/xbzrle.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
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
    if (arguments.value("resume", false)) return qmp_fail("Cannot resume if there is no paused migration");
    if (const auto missing = missing_descriptor(arguments["uri"]); !missing.empty())
      return qmp_fail("File descriptor named '" + missing + "' has not been found");
    const auto mode = disk_mode(arguments.value("blk", false), arguments.value("inc", false));
    if (!mode) return qmp_fail(mode.error().doing);
    return qmp_result(vm_.controller.migrate(arguments["uri"], *mode));
  }

  QmpResult migrate_incoming(const json& arguments) const {
    return qmp_result(vm_.controller.migrate_incoming(arguments["uri"]));
  }

  QmpResult migrate_cancel() const {
    vm_.controller.cancel();
    return json::object();
  }

  /// `state` is what the caller takes the migration to be in.
  QmpResult migrate_continue(const json& arguments) const {
    constexpr std::array<std::string_view, 14> kStates = {"none",
                                                          "setup",
                                                          "cancelling",
                                                          "cancelled",
                                                          "active",
                                                          "postcopy-active",
                                                          "postcopy-paused",
                                                          "postcopy-recover",
                                                          "completed",
                                                          "failed",
                                                          "colo",
                                                          "pre-switchover",
                                                          "device",
                                                          "wait-unplug"};
    const std::string state = arguments["state"];
    if (std::find(kStates.begin(), kStates.end(), state) == kStates.end())
      return qmp_fail("Parameter 'state' does not accept value '" + state + "'");
    const Status status = vm_.controller.status();
    const auto now = qmp_state(status.incoming ? Status{} : status);
    if (state != now) return qmp_fail("Migration not in expected state: " + std::string(now));
    return status.state == State::pre_switchover ? qmp_result(vm_.controller.proceed()) : json::object();
  }

  QmpResult query_migrate() const {
    json info = describe_migration(vm_.controller.status());
    const auto at = vm_.controller.incoming_address();
    if (!at) return info;
    if (at->scheme == "exec" || at->scheme == "fd" || at->scheme == "file") return info;
    json address = {{"type", at->scheme == "unix" ? "unix" : "inet"}};
    if (at->scheme == "unix") {
      address["path"] = at->target;
    } else {
      address["host"] = at->host;
      address["port"] = std::to_string(at->port);
      address[at->host.find(':') == std::string::npos ? "ipv4" : "ipv6"] = true;
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

  // Of old. Zero and less mean no limit; more than the most downtime means the most.
  QmpResult set_speed(const json& arguments) const {
    const json& value = arguments["value"];
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > kMost;
    const auto speed = huge ? kMost : static_cast<std::uint64_t>(std::max<std::int64_t>(0, value));
    return set_parameters({{"max-bandwidth", speed}});
  }
  QmpResult set_downtime(const json& arguments) const {
    constexpr double kMostSeconds = 2000;
    const double seconds = std::clamp(arguments["value"].get<double>(), 0.0, kMostSeconds);
    return set_parameters({{"downtime-limit", static_cast<std::int64_t>(seconds * 1000)}});
  }
  QmpResult set_cache_size(const json& arguments) const {
    const json& value = arguments["value"];
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > kMost;
    if (huge || value.get<std::int64_t>() < 0)
      return qmp_fail("Parameter 'cache size' expects a size that this host can address");
    const auto bytes = value.get<std::uint64_t>();
    Progress memory;
    for (const SectionHandler* each : vm_.sections.in_order()) each->report(memory);
    if (bytes > memory.bytes_total)
      return qmp_fail("Parameter 'cache size' expects a size that does not exceed the guest's RAM");
    const std::uint64_t page = std::max<std::uint64_t>(1, memory.page_bytes);
    if (bytes < page) return qmp_fail("Parameter 'cache size' expects at least the size of a page");
    return set_parameters({{"xbzrle-cache-size", XbzrleCache::rounded(bytes, page)}});
  }
  QmpResult query_cache_size() const { return vm_.controller.parameters().integer("xbzrle-cache-size"); }

  QmpResult get_descriptor(const json& arguments, QmpCaller& caller) const {
    if (caller.descriptors.empty()) return qmp_fail("No file descriptor supplied via SCM_RIGHTS");
    UniqueFd fd = std::move(caller.descriptors.front());
    caller.descriptors.pop_front();
    return qmp_result(vm_.descriptors.add(arguments["fdname"], std::move(fd)));
  }
  QmpResult close_descriptor(const json& arguments) const {
    return qmp_result(vm_.descriptors.close(arguments["fdname"].get<std::string>()));
  }

  QmpResult announce(const json& arguments) const {
    MigrationParameters asked;
    MigrationCapabilities none;
    add_standard_settings(asked, none);
    json values = json::object();
    for (const char* name : {"initial", "max", "rounds", "step"})
      values["announce-" + std::string(name)] = arguments[name];
    if (auto checked = asked.set(values); !checked) return qmp_fail(checked.error().doing);
    const auto time = [&](const char* name) { return std::chrono::milliseconds(asked.integer(name)); };
    vm_.controller.announce({.initial = time("announce-initial"),
                             .most = time("announce-max"),
                             .step = time("announce-step"),
                             .rounds = static_cast<unsigned>(asked.integer("announce-rounds"))});
    return json::object();
  }

 private:
  /// What goes along is said either with the command, or by the capability `block` and its parameter.
  Result<DiskMode> disk_mode(bool blk, bool inc) const {
    const bool block = vm_.controller.capabilities().on("block");
    const bool incremental = vm_.controller.parameters().all()["block-incremental"].get<bool>();
    if ((blk || inc) && (block || incremental))
      return fail(errc::invalid_argument,
                  "Command options are incompatible with current migration capabilities");
    if (inc || (block && incremental)) return DiskMode::incremental;
    return blk || block ? DiskMode::whole : DiskMode::none;
  }

  /// The name in fd:NAME if nobody has given it.
  std::string missing_descriptor(const std::string& uri) const {
    const auto endpoint = Endpoint::parse(uri);
    if (!endpoint || endpoint->scheme != "fd" || endpoint->target.empty()) return {};
    const bool number = endpoint->target.front() >= '0' && endpoint->target.front() <= '9';
    return number || vm_.descriptors.has(endpoint->target) ? std::string() : endpoint->target;
  }

  static constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
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
  with("migrate-continue", {{"state", QmpType::string}}, &Commands::migrate_continue);
  plain("query-migrate", &Commands::query_migrate);
  table.add({.name = "migrate-set-parameters",
             .run = [commands](const json& given) { return commands->set_parameters(given); },
             .checks_arguments = true});
  plain("query-migrate-parameters", &Commands::query_parameters);
  with("migrate-set-capabilities", {{"capabilities", QmpType::array}}, &Commands::set_capabilities);
  plain("query-migrate-capabilities", &Commands::query_capabilities);
  with("migrate_set_speed", {{"value", QmpType::integer}}, &Commands::set_speed);
  with("migrate_set_downtime", {{"value", QmpType::number}}, &Commands::set_downtime);
  with("migrate-set-cache-size", {{"value", QmpType::integer}}, &Commands::set_cache_size);
  plain("query-migrate-cache-size", &Commands::query_cache_size);
  table.add({.name = "getfd",
             .arguments = {{"fdname", QmpType::string}},
             .run_for = [commands](const json& given, QmpCaller& caller) {
               return commands->get_descriptor(given, caller);
             }});
  with("closefd", {{"fdname", QmpType::string}}, &Commands::close_descriptor);
  with("announce-self",
       {{"initial", QmpType::integer},
        {"max", QmpType::integer},
        {"rounds", QmpType::integer},
        {"step", QmpType::integer}},
       &Commands::announce);
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

void QmpEvents::on_state(State from, State to) noexcept {
  // As at QEMU: a switchover is told only where it waited to be let go on.
  if (to == State::device && from != State::pre_switchover) return;
  if (capabilities_.on("events")) emit_("MIGRATION", {{"status", to_string(to)}});
}

void QmpEvents::on_round_begin(std::uint32_t round) noexcept {
  if (capabilities_.on("events")) emit_("MIGRATION_PASS", {{"pass", round}});
}

}  // namespace ramferry::migration
