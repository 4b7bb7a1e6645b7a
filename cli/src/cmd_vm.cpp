// SPDX-License-Identifier: MIT
// ramferry vm: the reference VM as a process.
#include "command.hpp"
#include "signals.hpp"
#include "vm_process.hpp"

#include <ramferry/log.hpp>

#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>

namespace ramferry::cli {
namespace {

struct Options {
  VmProcessOptions process{.name = "vm"};
  std::string fill = "mixed", pattern = "uniform", backing = "anonymous", tracker = "automatic", stall_at;
  bool verbose = false;
  int parent = 0;
  std::int64_t slow_microseconds = 0;
};

/// If the process that asked for it is gone, so are we. It may have gone before we could ask.
bool die_with_parent(int parent) {
  if (parent == 0) return true;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  return getppid() == parent;
}

Result<> read_options(Options& options) {
  VmProcessOptions& process = options.process;
  process.vm.fill = process.incoming.empty() ? vm::parse_fill(options.fill)
                                             : vm::FillSpec{.mode = vm::FillSpec::Mode::untouched};
  process.vm.fill.seed = process.vm.workload.seed;
  RAMFERRY_TRY_ASSIGN(process.vm.workload.pattern, vm::parse_pattern(options.pattern));
  if (options.backing == "memfd") process.vm.backing = migration::Backing::Kind::shared_fd;
  if (options.tracker == "pagemap-scan") process.tracker = migration::TrackerKind::pagemap_scan;
  if (options.tracker == "userfaultfd") process.tracker = migration::TrackerKind::userfaultfd;
  process.slow_batches = std::chrono::microseconds(options.slow_microseconds);
  if (!options.stall_at.empty()) {
    RAMFERRY_TRY_ASSIGN(process.stall_at, parse_stall_phase(options.stall_at));
  }
  return {};
}

int run(Options& options) {
  StopSignals signals;
  if (!die_with_parent(options.parent)) return kFailed;
  StderrLog log(options.verbose ? LogLevel::debug : LogLevel::warn);
  if (const auto read = read_options(options); !read) return report_failure(read.error());
  auto process = VmProcess::start(options.process, log);
  if (!process) return report_failure(process.error());
  return (*process)->run(signals);
}

void add_test_options(CLI::App& command, Options& options) {
  const std::string hidden;  // an option without a group is not shown
  command.add_option("--stall-at", options.stall_at)->group(hidden);
  command.add_option("--die-with-parent", options.parent)->group(hidden);
  command.add_flag("!--quiet", options.process.announce)->group(hidden);
  command.add_flag("--lose-mark", options.process.lose_mark)->group(hidden);
  command.add_option("--slow-batches", options.slow_microseconds)->group(hidden);
}

}  // namespace

void add_vm_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("vm", "Runs the reference VM: memory that proves itself, a workload, a monitor");
  command->footer(
      "Example, a VM that waits for another of 1 GiB that writes 100 MiB/s:\n"
      "  ramferry vm --name b --qmp unix:/tmp/b.qmp --ram 1G --incoming tcp:127.0.0.1:4444 &\n"
      "  ramferry vm --name a --qmp unix:/tmp/a.qmp --ram 1G --dirty-rate 100M &\n"
      "  ramferry migrate --qmp unix:/tmp/a.qmp tcp:127.0.0.1:4444");
  VmProcessOptions& process = options->process;
  vm::WorkloadSpec& workload = process.vm.workload;
  command->add_option("--name", process.name, "What it is called")->capture_default_str();
  command->add_option("--qmp", process.monitor, "Where its monitor listens: unix:PATH or tcp:HOST:PORT")
      ->required();
  add_size_option(*command, "--ram", process.vm.ram_bytes, "Guest memory");
  command
      ->add_option("--fill", options->fill,
                   "What is in it: untouched, zero, random, mixed, mixed:FILE, or a file's content")
      ->capture_default_str();
  add_size_option(*command, "--dirty-rate", workload.bytes_per_second, "Pages written per second, in bytes");
  command->add_option("--pattern", options->pattern, "Which pages: uniform, zipf, sequential, second, hot")
      ->capture_default_str();
  command->add_option("--writers", workload.writers, "Threads that write")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  add_size_option(*command, "--change-bytes", workload.change_bytes, "How much of a page a write changes");
  command->add_option("--seed", workload.seed, "Of the content and of the workload")->capture_default_str();
  command->add_option("--backing", options->backing, "What is behind the memory")
      ->check(CLI::IsMember({"anonymous", "memfd"}))
      ->capture_default_str();
  command->add_flag("--prefault", process.vm.prefault, "Allocate all memory first, for measurements");
  command->add_option("--tracker", options->tracker, "How dirty pages are found")
      ->check(CLI::IsMember({"automatic", "pagemap-scan", "userfaultfd"}))
      ->capture_default_str();
  vm::DiskSpec& disk = process.vm.disk;
  command->add_option("--disk", disk.image, "A raw image: its disk, which 'migrate' with blk takes along");
  command->add_option("--disk-base", disk.base,
                      "What the disk was made from, at both ends, for 'migrate' with inc");
  add_size_option(*command, "--disk-rate", disk.bytes_per_second, "Written to the disk per second, in bytes");
  command->add_flag("--paused", process.paused,
                    "Do not run it; 'cont' does, also after an incoming migration");
  command->add_option("--incoming", process.incoming,
                      "Wait for a migration: at a URI, or 'defer' until migrate-incoming");
  command->add_flag("--verbose,-v", options->verbose, "Tell every step on standard error");
  add_test_options(*command, *options);
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace ramferry::cli
