// SPDX-License-Identifier: MIT
// The program's subcommands: each adds itself to the parser and says what to run once the line was
// understood.
#pragma once

#include <ramferry/error.hpp>

#include <CLI/CLI.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace ramferry::cli {

/// The program's exit statuses.
inline constexpr int kDone = 0, kFailed = 1, kWrongUsage = 2;

/// What main() runs: the chosen subcommand. Gives the exit status.
using Action = std::function<int()>;

void add_vm_command(CLI::App& app, Action& action);
void add_migrate_command(CLI::App& app, Action& action);
void add_status_command(CLI::App& app, Action& action);
void add_cancel_command(CLI::App& app, Action& action);
void add_demo_command(CLI::App& app, Action& action);
void add_inspect_command(CLI::App& app, Action& action);
void add_doctor_command(CLI::App& app, Action& action);
void add_receive_command(CLI::App& app, Action& action);
void add_send_command(CLI::App& app, Action& action);
void add_transports_command(CLI::App& app, Action& action);
void add_tunnel_command(CLI::App& app, Action& action);
void add_bench_command(CLI::App& app, Action& action);

/// "ramferry: <message>" on standard error; gives kWrongUsage for an invalid argument, kFailed for anything
/// else.
int report_failure(const Error& error);
/// A failure that is told in full by `words`, such as a monitor's: message() does not name the condition.
Failure said(errc condition, std::string words, std::string advice = {});
/// The address with its dialect named: plain bytes, as monitors and a tunnel's outer ends speak them.
/// errc::invalid_argument unless it is a socket's.
Result<std::string> plain_uri(const std::string& address);

/// An option that takes a size such as 512M or 1.5G.
CLI::Option* add_size_option(CLI::App& app, const std::string& name, std::uint64_t& value,
                             const std::string& help);

}  // namespace ramferry::cli
