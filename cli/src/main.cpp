// SPDX-License-Identifier: MIT
#include "command.hpp"
#include "features.hpp"

#include <CLI/CLI.hpp>

#include <exception>
#include <iostream>

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
    return app.exit(error) == 0 ? kDone : kWrongUsage;
  } catch (const std::exception& error) {  // out of memory and the like
    std::cerr << "ramferry: " << error.what() << '\n';
    return kFailed;
  }
}
