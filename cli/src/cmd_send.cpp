// SPDX-License-Identifier: MIT
// ramferry send: puts a kept VM back.
#include "catalog_setup.hpp"
#include "command.hpp"
#include "doorbell.hpp"
#include "signals.hpp"

#include <ramferry/checkpoint/sender.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/session_id.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

namespace ramferry::cli {
namespace {

using checkpoint::SendReport;
using nlohmann::json;

constexpr auto kConnectPatience = std::chrono::seconds(10);
constexpr int kTick = 200;  // milliseconds

struct Options {
  std::string file, uri, format;
  bool as_json = false, no_return_path = false;
};

double seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

json to_json(const SendReport& report) {
  return {{"machine", report.machine},           {"ram-bytes", report.ram_bytes},
          {"pages", report.sent_pages},          {"zero-pages", report.zero_pages},
          {"stream-bytes", report.stream_bytes}, {"acknowledged", report.acknowledged},
          {"seconds", seconds(report.took)}};
}

std::string_view outcome(const SendReport& report, const Endpoint& to) {
  if (to.scheme == "file") return "whole, and on the disk";
  if (to.scheme == "exec") return "took all bytes, and ended well";
  return report.acknowledged ? "says that it has the machine"
                             : "took all bytes; its own monitor says what became of them";
}

void print(const SendReport& report, const std::string& uri, const Endpoint& to) {
  const double rate = static_cast<double>(report.stream_bytes) / std::max(1e-9, seconds(report.took));
  fmt::print("sent {} to {}\n", report.machine, uri);
  fmt::print("  {:<12} {:.2f} s, {} on the wire, {}/s\n", "time", seconds(report.took),
             format_size(report.stream_bytes), format_size(static_cast<std::uint64_t>(rate)));
  fmt::print("  {:<12} {}\n", "destination", outcome(report, to));
}

/// Which dialect the destination speaks, unless the address says so: that of the VM the file came from.
Result<Endpoint> destination(const Options& options) {
  RAMFERRY_TRY_ASSIGN(Endpoint endpoint, Endpoint::parse(options.uri));
  const bool bytes_only = endpoint.scheme == "exec" || endpoint.scheme == "fd" || endpoint.scheme == "file";
  if (bytes_only && options.format == "native")
    return fail(errc::invalid_argument, "sending in the native dialect to " + options.uri,
                "exec:, fd: and file: carry QEMU's: leave --format native away");
  std::error_code ignored;
  if (endpoint.scheme == "file" && std::filesystem::equivalent(options.file, endpoint.target, ignored))
    return fail(errc::invalid_argument, "sending " + options.file + " to itself", "choose another path");
  if (bytes_only || endpoint.options.contains("dialect")) return endpoint;
  std::string dialect = options.format;
  if (dialect.empty()) {
    dialect = "qemu";
    RAMFERRY_TRY_ASSIGN(const bool is_checkpoint, checkpoint::CheckpointFile::is_checkpoint(options.file));
    if (is_checkpoint) {
      RAMFERRY_TRY_ASSIGN(const auto origin, checkpoint::CheckpointFile::origin_of(options.file));
      if (origin == checkpoint::Origin::native) dialect = "native";
    }
  }
  endpoint.options["dialect"] = dialect;
  return endpoint;
}

/// Runs the sender on a thread of its own while this one watches signals and shows progress.
Result<SendReport> run(checkpoint::Sender& sender, StopSignals& signals, bool show) {
  std::optional<Result<SendReport>> result;
  std::atomic<bool> over = false;
  Doorbell ended;
  std::thread thread([&] {
    result = sender.run();
    over = true;
    ended.ring();
  });
  const bool terminal = show && isatty(STDERR_FILENO) != 0;
  while (!over) {
    std::array<pollfd, 2> wait = {pollfd{signals.fd(), POLLIN, 0}, pollfd{ended.fd(), POLLIN, 0}};
    ::poll(wait.data(), wait.size(), kTick);
    if (signals.take()) sender.cancel();
    if (terminal && sender.ram_bytes() != 0)
      fmt::print(stderr, "\r\033[K{:3.0f} %",
                 100.0 * static_cast<double>(sender.done_bytes()) / static_cast<double>(sender.ram_bytes()));
  }
  thread.join();
  if (terminal) fmt::print(stderr, "\r\033[K");
  return std::move(*result);
}

int send(const Options& options) {
  StopSignals signals;
  StderrLog log(LogLevel::warn);
  const TransportCatalog catalog = make_catalog(log);
  const auto to = destination(options);
  if (!to) return report_failure(to.error());
  auto link = catalog.connect(to->to_string(), SessionId::random(), Deadline::after(kConnectPatience));
  if (!link) return report_failure(link.error());

  checkpoint::SendOptions how;
  how.return_path = !options.no_return_path && (to->scheme == "tcp" || to->scheme == "unix");
  checkpoint::Sender sender(std::move(*link), options.file, how);
  const auto report = run(sender, signals, !options.as_json);
  if (!report) return report_failure(report.error());
  if (options.as_json) {
    fmt::print("{}\n", to_json(*report).dump(2, ' ', false, json::error_handler_t::replace));
  } else {
    print(*report, options.uri, *to);
  }
  return kDone;
}

}  // namespace

void add_send_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("send", "Puts a kept VM back into a QEMU or a ramferry VM that waits for it");
  command->footer(
      "Example, into a QEMU started with the same machine and -incoming unix:/run/web.sock:\n"
      "  ramferry send /var/lib/vm/web.ckpt unix:/run/web.sock");
  command->add_option("file", options->file, "A checkpoint, or a plain stream")->required();
  command
      ->add_option("uri", options->uri,
                   "Where it waits: tcp:HOST:PORT, unix:PATH, exec:COMMAND, file:PATH, …")
      ->required();
  command->add_option("--format", options->format, "What it speaks; without this, what the file's VM was")
      ->check(CLI::IsMember({"native", "qemu"}));
  command->add_flag("--no-return-path", options->no_return_path,
                    "Do not ask a QEMU to say that it has the machine");
  command->add_flag("--json", options->as_json, "Machine-readable output");
  command->callback([options, &action] { action = [options] { return send(*options); }; });
}

}  // namespace ramferry::cli
