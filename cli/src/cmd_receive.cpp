// SPDX-License-Identifier: MIT
// ramferry receive: takes live VMs in and keeps them.
#include "catalog_setup.hpp"
#include "checkpoint_node.hpp"
#include "command.hpp"
#include "signals.hpp"

#include <ramferry/endpoint.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <memory>

namespace ramferry::cli {
namespace {

using checkpoint::ReceiveReport;
using nlohmann::json;

constexpr int kTick = 200;  // milliseconds

struct Options {
  std::string uri, save, format = "native";
  bool once = false, as_json = false;
};

double seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

json to_json(const ReceiveReport& report) {
  return {{"file", report.path.string()},
          {"machine", report.machine},
          {"origin", report.origin == checkpoint::Origin::native ? "ramferry" : "qemu"},
          {"ram-bytes", report.ram_bytes},
          {"pages", report.stored_pages},
          {"pages-overwritten", report.overwritten},
          {"state-bytes", report.state_bytes},
          {"file-bytes", report.file_bytes},
          {"stream-bytes", report.stream_bytes},
          {"acknowledged", report.acknowledged},
          {"seconds", seconds(report.took)},
          {"sync-seconds", seconds(report.syncing)}};
}

void print(const ReceiveReport& report, checkpoint::Format format, bool one_way) {
  fmt::print("kept {} as {}\n", report.machine, report.path.string());
  const double rate = static_cast<double>(report.stream_bytes) / std::max(1e-9, seconds(report.took));
  fmt::print("  {:<12} {}", "memory", format_size(report.ram_bytes));
  if (format == checkpoint::Format::checkpoint)  // a plain stream's pages are not counted
    fmt::print(", of which {} in {} pages with content",
               format_size(report.stored_pages * checkpoint::kPageBytes), report.stored_pages);
  fmt::print("\n");
  fmt::print("  {:<12} {}, device state {}\n", "file", format_size(report.file_bytes),
             format_size(report.state_bytes));
  fmt::print("  {:<12} {:.2f} s, {:.2f} s of it waiting for the disk; {} on the wire, {}/s\n", "time",
             seconds(report.took), seconds(report.syncing), format_size(report.stream_bytes),
             format_size(static_cast<std::uint64_t>(rate)));
  if (!report.acknowledged && !one_way)
    fmt::print(
        "  {:<12} {}\n", "note",
        "the source was not waiting for our word: turn its return path on, or check that it says completed");
}

/// Draws one line again and again on a terminal; says nothing elsewhere.
class ProgressLine {
 public:
  explicit ProgressLine(bool wanted) : wanted_(wanted && isatty(STDERR_FILENO) != 0) {}
  void show(const CheckpointNode::Progress& now) {
    if (!wanted_ || (now.arriving == 0 && !drawn_)) return;
    fmt::print(stderr, "\r\033[K");
    drawn_ = now.arriving != 0;
    if (!drawn_) return;
    const std::string share = now.ram_bytes == 0 || now.seen_bytes == 0
                                  ? ""
                                  : fmt::format("{:3.0f} %  ", 100.0 * static_cast<double>(now.seen_bytes) /
                                                                   static_cast<double>(now.ram_bytes));
    fmt::print(stderr, "{}{} received{}", share, format_size(now.stream_bytes),
               now.arriving > 1 ? fmt::format(", {} machines", now.arriving) : "");
  }
  void clear() {
    if (drawn_) fmt::print(stderr, "\r\033[K");
    drawn_ = false;
  }

 private:
  bool wanted_, drawn_ = false;
};

/// Told now, not when a machine comes.
Result<> check_folder(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.empty() ? "." : path;
  const std::string doing = "saving into the folder " + folder.string();
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) return fail(errc::not_found, doing, "create it first");
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    return fail_errno(errno, doing, "save elsewhere, or as a user who may write there");
  return {};
}

/// Commands and files end by themselves: nobody at the other end waits for a word.
bool is_one_way(const std::string& uri) {
  return uri.starts_with("exec:") || uri.starts_with("file:");
}

Result<checkpoint::ReceiveOptions> receive_options(const Options& options) {
  checkpoint::ReceiveOptions result;
  result.path = options.save;
  result.format = options.format == "qemu" ? checkpoint::Format::stream : checkpoint::Format::checkpoint;
  std::error_code ignored;
  result.in_folder = options.save.ends_with('/') || std::filesystem::is_directory(options.save, ignored);
  if (result.in_folder) {
    std::error_code problem;
    std::filesystem::create_directories(result.path, problem);
    if (problem)
      return fail_errno(problem.value(), "making the folder " + options.save,
                        "choose one that is there or can be made; without a '/' at its end it is a file");
  }
  RAMFERRY_TRY(check_folder(result.in_folder ? result.path : result.path.parent_path()));
  return result;
}

int receive(const Options& options) {
  StopSignals signals;
  StderrLog log(LogLevel::warn);
  const TransportCatalog catalog = make_catalog(log);
  const auto how = receive_options(options);
  if (!how) return report_failure(how.error());
  auto listener = catalog.listen(options.uri);
  if (!listener) return report_failure(listener.error());
  fmt::print(stderr, "ramferry: waiting at {}\n", (*listener)->local().to_string());
  if (how->in_folder) checkpoint::tidy_folder(how->path, log);

  ProgressLine line(!options.as_json);
  std::mutex output;
  const bool once = options.once || !how->in_folder;
  CheckpointNode node(std::move(*listener), *how, once, log, [&](const Result<ReceiveReport>& result) {
    const std::lock_guard lock(output);
    line.clear();
    if (!result) {
      report_failure(result.error());
    } else if (options.as_json) {
      fmt::print("{}\n", to_json(*result).dump(-1, ' ', false, json::error_handler_t::replace));
    } else {
      print(*result, how->format, is_one_way(options.uri));
    }
    std::fflush(stdout);
  });
  bool stopped = false;
  while (!node.idle()) {
    std::array<pollfd, 2> wait = {pollfd{signals.fd(), POLLIN, 0}, pollfd{node.change().fd(), POLLIN, 0}};
    ::poll(wait.data(), wait.size(), kTick);
    node.change().silence();
    if (signals.take()) {
      stopped = true;
      node.stop();
    }
    const auto now = node.progress();
    const std::lock_guard lock(output);
    line.show(now);
  }
  const auto result = node.progress();
  if (const auto error = node.error()) return report_failure(*error), kFailed;
  // A node that serves until it is stopped has done its work, whatever became of single machines.
  if (stopped && !once) return kDone;
  return result.kept > 0 && result.failed == 0 ? kDone : kFailed;
}

}  // namespace

void add_receive_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "receive", "Takes a live VM in, ours or a QEMU's, and keeps it in a file; Ctrl-C gives up");
  command->footer(
      "Example, with a QEMU whose monitor then says: migrate -d unix:/run/node.sock\n"
      "  ramferry receive unix:/run/node.sock --save /var/lib/vm/web.ckpt\n"
      "One machine after another, several at once, until Ctrl-C:\n"
      "  ramferry receive tcp:0.0.0.0:4444 --save /var/lib/vm/");
  command
      ->add_option("uri", options->uri,
                   "Where to wait: tcp:HOST:PORT, unix:PATH, rdma:HOST:PORT, exec:COMMAND, fd:N, file:PATH")
      ->required();
  command
      ->add_option("--save", options->save,
                   "A file, or a folder (with a '/' at its end) in which each machine gets a file of its own")
      ->required();
  command
      ->add_option("--format", options->format,
                   "native: each page once, checked and indexed; qemu: the plain stream, as it comes")
      ->check(CLI::IsMember({"native", "qemu"}))
      ->capture_default_str();
  command->add_flag("--once", options->once, "With a folder: end after the first machine");
  command->add_flag("--json", options->as_json, "One line of JSON for each machine");
  command->callback([options, &action] { action = [options] { return receive(*options); }; });
}

}  // namespace ramferry::cli
