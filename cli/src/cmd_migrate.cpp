// SPDX-License-Identifier: MIT
// ramferry migrate, status, cancel: a VM's migration, driven by its monitor alone.
#include "catalog_setup.hpp"
#include "command.hpp"
#include "migration_driver.hpp"
#include "migration_view.hpp"

#include <ramferry/log.hpp>

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

namespace ramferry::cli {
namespace {

using nlohmann::json;

/// With a monitor: a VM that was started a moment ago fills its memory first.
constexpr auto kConnectPatience = std::chrono::seconds(5);
constexpr auto kConnectAgain = std::chrono::milliseconds(20);
/// How long a cancel is watched, and how often.
constexpr auto kCancelPatience = std::chrono::seconds(5);
constexpr auto kCancelLook = std::chrono::milliseconds(5);

struct Options {
  std::string monitor;
  MigrationOrder order;
  bool as_json = false;
};

/// A catalogue, and a client that came out of it.
struct Monitor {
  StderrLog log{LogLevel::warn};
  TransportCatalog catalog = make_catalog(log);
  /// Without `signals` they end this process, as they do by default.
  Result<QmpClient> connect(const std::string& address, StopSignals* signals = nullptr) {
    const Deadline patience = Deadline::after(kConnectPatience);
    for (;;) {
      auto client = QmpClient::connect(catalog, address, Deadline::after(kConnectPatience));
      if (client || !nobody_listens(client.error()) || patience.passed()) return client;
      if (signals != nullptr && signals->take())
        return fail(errc::cancelled, "connecting to the monitor at " + address);
      std::this_thread::sleep_for(kConnectAgain);
    }
  }

 private:
  static bool nobody_listens(const Error& error) {
    return error.code == std::errc::no_such_file_or_directory || error.code == std::errc::connection_refused;
  }
};

int migrate(Options& options) {
  StopSignals signals;
  Monitor monitor;
  auto vm = monitor.connect(options.monitor, &signals);
  if (!vm) return report_failure(vm.error());
  options.order.show_progress = !options.as_json || isatty(STDERR_FILENO);
  const auto info = drive_migration(*vm, options.order, signals);
  if (!info) return report_failure(info.error());
  if (options.as_json) fmt::print("{}\n", info->dump(2));
  if (const auto done = outcome(*info); !done) {
    report_failure(done.error());
    return kFailed;
  }
  if (!options.as_json) fmt::print("{}", summary_text(*info, nullptr));
  return kDone;
}

std::string status_text(const json& state, const json& info) {
  std::string text = "guest      " + state.value("status", "unknown") + "\n";
  if (info.contains("status")) text += "migration  " + progress_text(info) + "\n";
  if (info.contains("error-desc")) text += "error      " + info["error-desc"].get<std::string>() + "\n";
  if (info.contains("x-ramferry-uri"))
    text += "waits at   " + info["x-ramferry-uri"].get<std::string>() + "\n";
  const json own = info.value("x-ramferry", json::object());
  if (const std::string hand_over = own.value("hand-over", "none"); hand_over != "none")
    text += "hand-over  " + hand_over + "\n";
  // Before there is a link the session is all zeros.
  const std::string session = own.value("session", "");
  if (session.find_first_not_of("0-") != session.npos) text += "session    " + session + "\n";
  if (info.value("status", "") == "completed" && info.contains("ram")) text += summary_text(info, nullptr);
  return text;
}

int status(const Options& options) {
  Monitor monitor;
  auto vm = monitor.connect(options.monitor);
  if (!vm) return report_failure(vm.error());
  const auto state = vm->execute("query-status");
  if (!state) return report_failure(state.error());
  const auto info = vm->execute("query-migrate");
  if (!info) return report_failure(info.error());
  if (options.as_json) {
    fmt::print("{}\n", json{{"status", *state}, {"migration", *info}}.dump(2));
  } else {
    fmt::print("{}", status_text(*state, *info));
  }
  return kDone;
}

bool is_under_way(const json& info) {
  const std::string status = info.value("status", "none");
  return status != "none" && status != "completed" && status != "failed" && status != "cancelled";
}

/// Cancels, and watches it end: the seconds that it took. Nothing: no migration was under way, or it ended
/// otherwise.
Result<std::optional<double>> cancel_and_watch(QmpClient& vm) {
  RAMFERRY_TRY_ASSIGN(json info, vm.execute("query-migrate"));
  if (!is_under_way(info)) return std::nullopt;
  const auto begin = Deadline::Clock::now();
  const Deadline deadline = Deadline::after(kCancelPatience);
  RAMFERRY_TRY(vm.execute("migrate_cancel"));
  for (;;) {
    RAMFERRY_TRY_ASSIGN(info, vm.execute("query-migrate"));
    const std::string status = info.value("status", "none");
    const std::chrono::duration<double> seen = Deadline::Clock::now() - begin;
    if (status == "cancelled")  // a QEMU does not say how long it took
      return info.value(json::json_pointer("/x-ramferry/cancel-seconds"), seen.count());
    if (status != "cancelling") return std::nullopt;
    if (deadline.passed())
      return fail(errc::timed_out, "cancelling", "it may still end: ask again with 'ramferry status'");
    std::this_thread::sleep_for(kCancelLook);
  }
}

int cancel(const Options& options) {
  Monitor monitor;
  auto vm = monitor.connect(options.monitor);
  if (!vm) return report_failure(vm.error());
  const auto took = cancel_and_watch(*vm);
  if (!took) return report_failure(took.error());
  if (options.as_json) {
    json result = {{"cancelled", took->has_value()}};
    if (*took) result["seconds"] = **took;
    fmt::print("{}\n", result.dump(2));
  } else if (*took) {
    fmt::print("cancelled in {:.0f} ms\n", **took * 1e3);
  } else {
    fmt::print("nothing to cancel: no migration is under way\n");
  }
  return kDone;
}

std::string transports_text(const TransportCatalog& catalog) {
  std::string text;
  for (const std::string& scheme : catalog.schemes()) {
    const Transport& transport = **catalog.find(scheme);
    const auto usable = transport.probe();
    text += scheme + ":" + (usable ? "" : "  cannot be used here: " + usable.error().message()) + "\n";
    for (const OptionSpec& option : transport.options())
      text += fmt::format("    {}={}  {}\n", option.name, option.values, option.meaning);
  }
  return text;
}

/// {"tcp": {"usable": true, "why-not": "", "options": [{"name", "values", "meaning"}]}}
json transports_json(const TransportCatalog& catalog) {
  json all = json::object();
  for (const std::string& scheme : catalog.schemes()) {
    const Transport& transport = **catalog.find(scheme);
    const auto usable = transport.probe();
    json options = json::array();
    for (const OptionSpec& option : transport.options())
      options.push_back({{"name", option.name}, {"values", option.values}, {"meaning", option.meaning}});
    all[scheme] = {{"usable", usable.has_value()},
                   {"why-not", usable ? "" : usable.error().message()},
                   {"options", std::move(options)}};
  }
  return all;
}

CLI::App* add_monitor_command(CLI::App& app, const char* name, const char* help, Options& options) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("--qmp", options.monitor, "The VM's monitor: unix:PATH or tcp:HOST:PORT")->required();
  command->add_flag("--json", options.as_json, "Machine-readable output");
  return command;
}

}  // namespace

void add_migrate_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      add_monitor_command(app, "migrate", "Migrates a running VM, ours or a QEMU; Ctrl-C cancels", *options);
  command->footer(
      "Example, with a downtime of at most 50 ms over two connections:\n"
      "  ramferry migrate --qmp unix:/tmp/a.qmp --set downtime-limit=50 'tcp:10.0.0.7:4444?lanes=2'\n"
      "To a file:\n"
      "  ramferry migrate --qmp unix:/tmp/a.qmp file:/tmp/a.state");
  command
      ->add_option("uri", options->order.uri,
                   "Where to: tcp:HOST:PORT, unix:PATH, rdma:HOST:PORT, file:PATH, …")
      ->required();
  command
      ->add_option("--set", options->order.settings,
                   "A parameter or capability of the VM, NAME=VALUE; again for more")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command->callback([options, &action] { action = [options] { return migrate(*options); }; });
}

void add_status_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      add_monitor_command(app, "status", "Tells what a VM and its migration are doing", *options);
  command->footer("Example:\n  ramferry status --qmp unix:/tmp/a.qmp");
  command->callback([options, &action] { action = [options] { return status(*options); }; });
}

void add_cancel_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_monitor_command(
      app, "cancel", "Cancels a VM's migration; the guest goes on at the source", *options);
  command->footer("Example:\n  ramferry cancel --qmp unix:/tmp/a.qmp");
  command->callback([options, &action] { action = [options] { return cancel(*options); }; });
}

void add_transports_command(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("transports", "Lists the schemes and options of migration addresses");
  command->footer("Example:\n  ramferry transports");
  const auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "Machine-readable output");
  command->callback([as_json, &action] {
    action = [as_json] {
      StderrLog log(LogLevel::warn);
      const TransportCatalog catalog = make_catalog(log);
      fmt::print("{}", *as_json ? transports_json(catalog).dump(2) + "\n" : transports_text(catalog));
      return kDone;
    };
  });
}

}  // namespace ramferry::cli
