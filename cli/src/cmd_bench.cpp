// SPDX-License-Identifier: MIT
// ramferry bench serve|run|verbs: what a transport can do between two machines.
#include "bench/channel_bench.hpp"
#include "bench/memory.hpp"
#include "bench/verbs_bench.hpp"
#include "catalog_setup.hpp"
#include "command.hpp"
#include "signals.hpp"

#include <ramferry/log.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <memory>
#include <string>

namespace ramferry::cli {
namespace {

constexpr auto kLookAround = std::chrono::milliseconds(100);

struct Options {
  std::string uri;
  ChannelBenchPlan plan;
  VerbsBenchPlan verbs;
  std::uint64_t most = std::uint64_t{8} << 30;
  std::int64_t slow_microseconds = 0;
  bool once = false, as_json = false, serve = false;
};

int show(const Options& options, const Result<BenchReport>& report) {
  if (!report) return report_failure(report.error());
  if (options.as_json) {
    fmt::print("{}\n", to_json(*report).dump(2));
  } else {
    fmt::print("{}", to_text(*report));
  }
  return kDone;
}

int serve(const Options& options) {
  StopSignals signals;
  StderrLog log(LogLevel::warn);
  const TransportCatalog catalog = make_catalog(log);
  auto listener = catalog.listen(options.uri);
  if (!listener) return report_failure(listener.error());
  fmt::print(stderr, "ramferry: waiting at {}\n", (*listener)->local().to_string());
  bool stopped = false;
  const auto stop = [&] { return stopped = stopped || signals.take(); };
  while (!stop()) {
    auto link = (*listener)->accept(Deadline::after(kLookAround));
    if (!link && link.error().is(errc::timed_out)) continue;
    if (!link) return report_failure(link.error());
    auto* channel = std::get_if<std::unique_ptr<Channel>>(&*link);
    if (channel == nullptr) {
      log.warn("bench: a QEMU connected; it wants `ramferry receive`");
      continue;
    }
    const auto served = serve_channel_bench(std::move(*channel), options.most, stop);
    if (!served && !stopped) report_failure(served.error());
    if (options.once) return served ? kDone : kFailed;
  }
  return kDone;
}

int run(const Options& options) {
  StderrLog log(LogLevel::warn);
  const TransportCatalog catalog =
      make_catalog(log, {.slow_batches = std::chrono::microseconds(options.slow_microseconds)});
  return show(options, run_channel_bench(catalog, options.uri, options.plan));
}

int verbs(Options& options) {
  if (!options.serve) {
    options.verbs.bytes = options.plan.bytes;
    return show(options, run_verbs_bench(options.uri, options.verbs));
  }
  StopSignals signals;
  const auto served = serve_verbs_bench(options.uri, options.most, [&](unsigned peers) {
    return (options.once && peers > 0) || signals.take();
  });
  return served ? kDone : report_failure(served.error());
}

void add_serve(CLI::App& bench, const std::shared_ptr<Options>& options, Action& action) {
  CLI::App* command = bench.add_subcommand("serve", "Lends memory to those who measure; Ctrl-C ends it");
  command->footer("Example:\n  ramferry bench serve rdma:0.0.0.0:4444");
  command->add_option("uri", options->uri, "Where to wait: tcp:HOST:PORT, unix:PATH, rdma:HOST:PORT")
      ->required();
  add_size_option(*command, "--most", options->most, "Memory that a peer may ask for");
  command->add_flag("--once", options->once, "End when the first peer has left");
  command->callback([options, &action] { action = [options] { return serve(*options); }; });
}

void add_run(CLI::App& bench, const std::shared_ptr<Options>& options, Action& action) {
  CLI::App* command =
      bench.add_subcommand("run", "Places memory into a `bench serve` and tells how long it takes");
  command->footer(
      "Example, 8 GiB over four queue pairs, and every second page of 4 KiB:\n"
      "  ramferry bench run 'rdma:10.0.0.7:4444?lanes=4&pin=all' --bytes 8G\n"
      "  ramferry bench run rdma:10.0.0.7:4444 --extent 4K --stride 8K");
  command->add_option("uri", options->uri, "Where it serves, with the transport's options after '?'")
      ->required();
  ChannelBenchPlan& plan = options->plan;
  add_size_option(*command, "--bytes", plan.bytes, "Placed in each run");
  CLI::Option* extent = add_size_option(*command, "--extent", plan.extent, "Of one placement");
  CLI::Option* stride = add_size_option(*command, "--stride", plan.stride, "From one placement to the next");
  command->add_option("--repeat", plan.repeats, "Runs")->check(CLI::Range(1, 1000))->capture_default_str();
  command->add_flag("--cold", plan.cold, "The destination's memory is not touched before");
  command->add_flag("--json", options->as_json, "Machine-readable output");
  command->add_option("--slow-batches", options->slow_microseconds)->group("");
  command->callback([options, extent, stride, &action] {
    if (extent->count() > 0 && stride->count() == 0) options->plan.stride = options->plan.extent;
    action = [options] { return run(*options); };
  });
}

void add_verbs(CLI::App& bench, const std::shared_ptr<Options>& options, Action& action) {
  CLI::App* command =
      bench.add_subcommand("verbs", "A plain loop of RDMA writes: the yardstick for rdma: on this hardware");
  command->footer(
      "Example, at one end and at the other:\n"
      "  ramferry bench verbs --serve rdma:0.0.0.0:4445\n"
      "  ramferry bench verbs rdma:10.0.0.7:4445 --lanes 4\n"
      "Every second page of 4 KiB:\n"
      "  ramferry bench verbs rdma:10.0.0.7:4445 --extent 4K --stride 8K");
  VerbsBenchPlan& plan = options->verbs;
  command->add_option("uri", options->uri, "rdma:HOST:PORT")->required();
  command->add_flag("--serve", options->serve, "Lend memory instead");
  add_size_option(*command, "--most", options->most, "With --serve: memory that a peer may ask for");
  command->add_flag("--once", options->once, "With --serve: end when the first peer has left");
  add_size_option(*command, "--bytes", options->plan.bytes, "Written in each run");
  CLI::Option* extent = add_size_option(*command, "--extent", plan.extent, "Of one write");
  CLI::Option* stride = add_size_option(*command, "--stride", plan.stride, "From one write to the next");
  command->add_option("--lanes", plan.queue_pairs, "Queue pairs")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--list", plan.list, "Writes per doorbell, at most")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  add_size_option(*command, "--window", plan.window, "In flight on each queue pair");
  command->add_option("--repeat", plan.repeats, "Runs")->check(CLI::Range(1, 1000))->capture_default_str();
  command->add_flag("--json", options->as_json, "Machine-readable output");
  command->callback([options, extent, stride, &action] {
    if (extent->count() > 0 && stride->count() == 0) options->verbs.stride = options->verbs.extent;
    action = [options] { return verbs(*options); };
  });
}

}  // namespace

void add_bench_command(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("bench", "Measures a transport between two machines, or on this one");
  command->require_subcommand(1);
  command->footer(
      "Example, at one end and at the other:\n"
      "  ramferry bench serve tcp:0.0.0.0:4445\n"
      "  ramferry bench run tcp:10.0.0.7:4445\n"
      "Whole migrations against QEMU and plain loops are measured by ./dev bench.");
  const auto options = std::make_shared<Options>();
  add_serve(*command, options, action);
  add_run(*command, options, action);
  add_verbs(*command, options, action);
}

}  // namespace ramferry::cli
