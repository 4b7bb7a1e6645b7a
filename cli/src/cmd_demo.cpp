// SPDX-License-Identifier: MIT
// ramferry demo: two VM processes, a live migration between them, and the proof that every page is right.
#include "catalog_setup.hpp"
#include "child_process.hpp"
#include "command.hpp"
#include "demo_address.hpp"
#include "migration_driver.hpp"
#include "migration_view.hpp"

#include <ramferry/log.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ramferry::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string transport = "tcp", host, pin, fill = "mixed", pattern = "uniform", tracker = "automatic";
  std::uint64_t ram_bytes = std::uint64_t{1} << 30, dirty_rate = 100 << 20, bandwidth = 0, pin_budget = 0;
  unsigned lanes = 0;
  unsigned downtime_ms = 300;
  std::uint64_t seed = 1;
  bool as_json = false, verbose = false;
};

constexpr auto kStartPatience = std::chrono::minutes(3);  // filling 8 GiB of cold memory takes its time
constexpr auto kSweepPatience = std::chrono::minutes(3);
constexpr auto kQuitPatience = std::chrono::seconds(5);

/// A directory for sockets that goes with its owner.
class WorkDirectory {
 public:
  static Result<WorkDirectory> make() {
    std::string name = (std::filesystem::temp_directory_path() / "ramferry-demo-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) return fail_errno(errno, "making a directory for sockets: " + name);
    return WorkDirectory(std::move(name));
  }
  WorkDirectory(WorkDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  WorkDirectory& operator=(WorkDirectory&&) = delete;
  ~WorkDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const noexcept { return path_; }

 private:
  explicit WorkDirectory(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// One of the two VMs, and its monitor.
struct Vm {
  ChildProcess process;
  QmpClient monitor;

  static Result<ChildProcess> start(const Options& options, const std::string& name,
                                    const std::string& monitor, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"vm", "--name", name, "--qmp", monitor};
    for (std::string& word : more) arguments.push_back(std::move(word));
    const auto add = [&arguments](const char* option, const std::string& value) {
      arguments.emplace_back(option);
      arguments.push_back(value);
    };
    add("--ram", std::to_string(options.ram_bytes));
    add("--dirty-rate", std::to_string(options.dirty_rate));
    add("--fill", options.fill);
    add("--pattern", options.pattern);
    add("--tracker", options.tracker);
    add("--seed", std::to_string(options.seed));
    add("--die-with-parent", std::to_string(getpid()));
    arguments.emplace_back("--quiet");
    if (options.verbose) arguments.emplace_back("--verbose");
    return ChildProcess::start(arguments);
  }

  /// Its monitor listens once its memory is filled.
  static Result<Vm> reach(ChildProcess process, const TransportCatalog& catalog, const std::string& monitor,
                          StopSignals& signals) {
    const Deadline deadline = Deadline::after(kStartPatience);
    for (;;) {
      auto client = QmpClient::connect(catalog, monitor, Deadline::after(std::chrono::seconds(5)));
      if (client) return Vm{std::move(process), std::move(*client)};
      if (const auto status = process.ended()) return ended_early(*status);
      if (signals.take()) return fail(errc::cancelled, "starting the VMs");
      if (deadline.passed()) return Failure(client.error());
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

  /// A child that refused its options passes its status on.
  static Failure ended_early(int status) {
    return said(status == kWrongUsage ? errc::invalid_argument : errc::peer_gone,
                fmt::format("starting a VM: it ended with status {}", status), "its message is above");
  }

  void quit() {
    (void)monitor.execute("quit");
    process.wait(kQuitPatience);
  }
};

Result<json> wait_for_sweep(QmpClient& vm) {
  const Deadline deadline = Deadline::after(kSweepPatience);
  for (;;) {
    RAMFERRY_TRY_ASSIGN(json sweep, vm.execute("x-ramferry-query-sweep"));
    if (sweep.value("status", "") == "done") return sweep;
    if (deadline.passed()) return fail(errc::timed_out, "waiting for the destination to check its memory");
    const auto event = vm.event(Deadline::after(std::chrono::milliseconds(200)));
    if (!event && !event.error().is(errc::timed_out)) return Failure(event.error());
  }
}

Result<std::string> destination_uri(const Options& options, QmpClient& destination) {
  RAMFERRY_TRY_ASSIGN(const json waiting, destination.execute("query-migrate"));
  RAMFERRY_TRY_ASSIGN(Endpoint at, Endpoint::parse(waiting.value("x-ramferry-uri", "")));
  if (options.lanes != 0) at.options["lanes"] = std::to_string(options.lanes);
  if (!options.pin.empty()) at.options["pin"] = options.pin;
  return at.to_string();
}

void print_result(const Options& options, const json& source, const json& destination, const json& sweep) {
  if (options.as_json) {
    fmt::print("{}\n", json{{"source", source}, {"destination", destination}, {"sweep", sweep}}.dump(2));
    return;
  }
  const auto count = [&sweep](const char* name) { return sweep.value(name, std::uint64_t{0}); };
  fmt::print("{}", summary_text(source, destination));
  fmt::print("  {:<12} {} pages in {:.2f} s: {} untouched, {} zero, {} with content, {} wrong\n", "check",
             count("pages"), sweep.value("seconds", 0.0), count("untouched"), count("zero"), count("stamped"),
             count("wrong"));
  for (const json& wrong : sweep.value("first-wrong", json::array()))
    fmt::print("  wrong        {}\n", wrong.dump());
}

Result<int> migrate_and_check(const Options& options, Vm& source, Vm& destination, StopSignals& signals) {
  RAMFERRY_TRY_ASSIGN(const std::string uri, destination_uri(options, destination.monitor));
  if (!options.as_json)
    fmt::print(stderr, "migrating {} of guest memory (and 2 MiB of video memory), written at {}/s, to {}\n",
               format_size(options.ram_bytes), format_size(options.dirty_rate), uri);
  const MigrationOrder order{.uri = uri,
                             .settings = {"downtime-limit=" + std::to_string(options.downtime_ms),
                                          "max-bandwidth=" + std::to_string(options.bandwidth)},
                             .show_progress = !options.as_json || isatty(STDERR_FILENO)};
  RAMFERRY_TRY_ASSIGN(const json info, drive_migration(source.monitor, order, signals));
  if (options.as_json && !outcome(info)) fmt::print("{}\n", json{{"source", info}}.dump(2));
  RAMFERRY_TRY(outcome(info));
  RAMFERRY_TRY_ASSIGN(const json received, destination.monitor.execute("query-migrate"));
  RAMFERRY_TRY_ASSIGN(const json sweep, wait_for_sweep(destination.monitor));
  print_result(options, info, received, sweep);
  if (sweep.value("wrong", std::uint64_t{1}) == 0) return kDone;
  fmt::print(stderr, "ramferry: the destination's memory is not what the source had\n");
  return kFailed;
}

Result<int> demonstrate(const Options& options, StopSignals& signals) {
  StderrLog log(LogLevel::error);
  const TransportCatalog catalog = make_catalog(log);
  RAMFERRY_TRY_ASSIGN(const WorkDirectory directory, WorkDirectory::make());
  RAMFERRY_TRY_ASSIGN(const std::string address,
                      demo_address(options.transport, options.host, directory.path()));
  RAMFERRY_TRY_ASSIGN(Endpoint at, Endpoint::parse(address));
  if (!options.pin.empty()) at.options["pin"] = options.pin;
  if (options.pin_budget != 0) at.options["pin-budget"] = std::to_string(options.pin_budget);
  const std::string there = "unix:" + directory.path() + "/destination.qmp";
  const std::string here = "unix:" + directory.path() + "/source.qmp";
  // Both at once: the source fills its memory meanwhile.
  RAMFERRY_TRY_ASSIGN(ChildProcess second,
                      Vm::start(options, "destination", there, {"--incoming", at.to_string()}));
  RAMFERRY_TRY_ASSIGN(ChildProcess first, Vm::start(options, "source", here, {}));
  RAMFERRY_TRY_ASSIGN(Vm destination, Vm::reach(std::move(second), catalog, there, signals));
  RAMFERRY_TRY_ASSIGN(Vm source, Vm::reach(std::move(first), catalog, here, signals));
  auto result = migrate_and_check(options, source, destination, signals);
  source.quit();
  destination.quit();
  return result;
}

int run(const Options& options) {
  StopSignals signals;
  const auto status = demonstrate(options, signals);
  if (status) return *status;
  report_failure(status.error());
  return status.error().is(errc::invalid_argument) ? kWrongUsage : kFailed;
}

}  // namespace

void add_demo_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("demo", "Migrates a VM that is being written to, and proves every page right");
  command->footer(
      "Example, 8 GiB over two connections:\n"
      "  ramferry demo --ram 8G --lanes 2");
  command->add_option("--transport", options->transport, "How the pages travel")
      ->check(CLI::IsMember({"tcp", "unix", "rdma"}))
      ->capture_default_str();
  command->add_option("--host", options->host,
                      "The address to meet at (tcp: 127.0.0.1, rdma: a device's own)");
  add_size_option(*command, "--ram", options->ram_bytes, "Guest memory");
  add_size_option(*command, "--dirty-rate", options->dirty_rate, "Pages written per second, in bytes");
  command
      ->add_option("--fill", options->fill,
                   "What is in guest memory: untouched, zero, random, mixed, mixed:FILE, or a file's content")
      ->capture_default_str();
  command->add_option("--pattern", options->pattern, "Which pages: uniform, zipf, sequential, second, hot")
      ->check(CLI::IsMember({"uniform", "zipf", "sequential", "second", "hot"}))
      ->capture_default_str();
  command->add_option("--lanes", options->lanes, "Connections that share the pages")
      ->check(CLI::Range(1, 64));
  command->add_option("--pin", options->pin, "RDMA: register all memory, or on demand")
      ->check(CLI::IsMember({"all", "demand"}));
  add_size_option(*command, "--pin-budget", options->pin_budget,
                  "With --pin demand: register at most this much, 0: what the limits suggest");
  command->add_option("--downtime-limit", options->downtime_ms, "Milliseconds the guest may stand still")
      ->capture_default_str();
  add_size_option(*command, "--max-bandwidth", options->bandwidth, "Bytes per second; 0: no limit");
  command->add_option("--tracker", options->tracker, "How dirty pages are found")
      ->check(CLI::IsMember({"automatic", "pagemap-scan", "userfaultfd"}))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "Of the content and of the workload")->capture_default_str();
  command->add_flag("--json", options->as_json, "Machine-readable output");
  command->add_flag("--verbose,-v", options->verbose, "Tell every step on standard error");
  command->callback([options, &action] {
    if (options->transport != "rdma" && (!options->pin.empty() || options->pin_budget != 0))
      throw CLI::ValidationError("--pin and --pin-budget are for --transport rdma");
    action = [options] { return run(*options); };
  });
}

}  // namespace ramferry::cli
