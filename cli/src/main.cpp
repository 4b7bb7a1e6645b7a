// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "features.hpp"

#include <CLI/CLI.hpp>

#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace {

/// "unknown subcommand 'bogus' (known are demo, vm)" if that is what is wrong with the line, else nothing.
std::string unknown_subcommand(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  const std::vector<std::string> rest = at->remaining();
  if (at->get_require_subcommand_min() == 0 || rest.empty() || rest[0].starts_with('-')) return {};
  std::string known;
  for (const CLI::App* each : at->get_subcommands([](const CLI::App*) { return true; }))
    known += (known.empty() ? "" : ", ") + each->get_name();
  return "unknown subcommand '" + rest[0] + "' (known are " + known + ")";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace ramferry::cli;
  CLI::App app("Moves running virtual machines between hosts, RDMA first");
  app.set_version_flag("--version", "ramferry " RAMFERRY_VERSION);
  app.require_subcommand(1);
  app.footer("ramferry SUBCOMMAND --help shows a subcommand's options and an example.");
  Action action;
  add_vm_command(app, action);
  add_migrate_command(app, action);
  add_status_command(app, action);
  add_cancel_command(app, action);
  add_demo_command(app, action);
  add_inspect_command(app, action);
  add_doctor_command(app, action);
  add_tunnel_command(app, action);
  add_receive_command(app, action);
  add_send_command(app, action);
  add_transports_command(app, action);
  add_bench_command(app, action);
  try {
    app.parse(argc, argv);
    return action();
  } catch (const CLI::ParseError& error) {
    if (const std::string unknown = unknown_subcommand(app); error.get_exit_code() != 0 && !unknown.empty()) {
      std::cerr << "ramferry: " << unknown << '\n';
      return kWrongUsage;
    }
    return app.exit(error) == 0 ? kDone : kWrongUsage;
  } catch (const std::exception& error) {  // out of memory and the like
    std::cerr << "ramferry: " << error.what() << '\n';
    return kFailed;
  }
}
