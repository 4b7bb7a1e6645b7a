// SPDX-License-Identifier: MIT
#include "bench/verbs_bench.hpp"

#include "bench/memory.hpp"
#include "features.hpp"

#include <ramferry/endpoint.hpp>

#if RAMFERRY_WITH_RDMA
#include "command.hpp"

#include <ramferry/rdma/verbs_loop.hpp>

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#endif

namespace ramferry::cli {

#if RAMFERRY_WITH_RDMA
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

Result<Endpoint> rdma_endpoint(const std::string& uri) {
  RAMFERRY_TRY_ASSIGN(Endpoint endpoint, Endpoint::parse(uri));
  if (endpoint.scheme != "rdma")
    return fail(errc::invalid_argument, "measuring verbs at " + uri, "it is rdma:HOST:PORT");
  return endpoint;
}

BenchRun to_run(const VerbsLoopRun& loop, CpuTime cpu) {
  BenchRun run{.seconds = loop.seconds, .bytes = loop.bytes, .source = cpu};
  run.counted.wire_bytes_sent = loop.bytes;
  run.counted.work_requests = loop.work_requests;
  run.counted.doorbells = loop.doorbells;
  run.counted.completions = loop.completions;
  return run;
}

}  // namespace

Result<BenchReport> run_verbs_bench(const std::string& uri, const VerbsBenchPlan& plan) {
  RAMFERRY_TRY_ASSIGN(const Endpoint to, rdma_endpoint(uri));
  if (plan.extent == 0 || plan.stride < plan.extent || plan.bytes < plan.extent)
    return fail(errc::invalid_argument, "planning the benchmark",
                "give --extent <= --stride, --extent <= --bytes");
  RAMFERRY_TRY_ASSIGN(const BenchMemory memory,
                      BenchMemory::map(plan.bytes / plan.extent * plan.stride, true));
  const VerbsLoopPlan loop{.extent = plan.extent,
                           .stride = plan.stride,
                           .queue_pairs = plan.queue_pairs,
                           .list = plan.list,
                           .window = plan.window,
                           .repeats = plan.repeats};
  std::vector<CpuTime> cpu;
  RAMFERRY_TRY_ASSIGN(const VerbsLoopReport found,
                      run_verbs_loop(
                          to, memory.bytes(), loop, [&] { cpu.push_back(CpuTime::of_this_process()); },
                          Deadline::after(kPatience)));
  BenchReport report{.what = "verbs loop",
                     .uri = uri,
                     .bytes = plan.bytes,
                     .extent = plan.extent,
                     .stride = plan.stride,
                     .setup = {{"connect", found.connect_seconds}, {"register", found.register_seconds}},
                     .pinned = memory.bytes().size(),
                     .destination_pinned = memory.bytes().size(),
                     .facts = found.facts};
  for (std::size_t i = 0; i < found.runs.size(); ++i)
    report.runs.push_back(to_run(found.runs[i], cpu[2 * i + 1] - cpu[2 * i]));
  return report;
}

Result<> serve_verbs_bench(const std::string& uri, std::uint64_t most_bytes,
                           const std::function<bool(unsigned peers)>& stop) {
  RAMFERRY_TRY_ASSIGN(const Endpoint at, rdma_endpoint(uri));
  BenchMemory memory;
  VerbsLoopHost host;
  host.memory = [&](std::uint64_t bytes) -> Result<Bytes> {
    if (bytes > most_bytes)
      return fail(errc::no_space, "a peer asked for " + format_size(bytes), "raise --most");
    if (memory.bytes().size() != bytes) {
      RAMFERRY_TRY_ASSIGN(memory, BenchMemory::map(bytes, true));
    }
    return memory.bytes();
  };
  host.problem = [](const Error& why) { report_failure(why); };
  host.listening = [](const Endpoint& local) {
    fmt::print(stderr, "ramferry: waiting at {}\n", local.to_string());
  };
  host.stop = stop;
  return serve_verbs_loop(at, host);
}

#else

Result<BenchReport> run_verbs_bench(const std::string& /*uri*/, const VerbsBenchPlan& /*plan*/) {
  return fail(errc::unsupported, "measuring verbs: this ramferry was built without RDMA",
              "install libibverbs-dev and librdmacm-dev, and build again");
}

Result<> serve_verbs_bench(const std::string& /*uri*/, std::uint64_t /*most_bytes*/,
                           const std::function<bool(unsigned peers)>& /*stop*/) {
  return fail(errc::unsupported, "measuring verbs: this ramferry was built without RDMA",
              "install libibverbs-dev and librdmacm-dev, and build again");
}

#endif

}  // namespace ramferry::cli
