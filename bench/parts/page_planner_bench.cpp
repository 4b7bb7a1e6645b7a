// SPDX-License-Identifier: MIT
// The planner's own cost per dirty page and per clean word, by pattern, without looking at the memory.
#include "guest_memory.hpp"

#include <ramferry/migration/page_planner.hpp>

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace ramferry::bench {
namespace {

using migration::DirtySet;
using migration::PageBatch;
using migration::PagePlanner;
using migration::RamLayout;

constexpr std::uint64_t kBytes = std::uint64_t{16} << 30U;  // reserved, never touched
constexpr std::uint64_t kBatchBytes = std::uint64_t{4} << 20U;

/// Every `range(0)`th page is dirty.
void round(benchmark::State& state) {
  const GuestMemory memory(GuestMemory::Kind::memfd, kBytes);
  const RamLayout layout = memory.layout();
  DirtySet pattern(layout), outstanding(layout);
  for (std::uint64_t page = 0; page < memory.pages(); page += static_cast<std::uint64_t>(state.range(0)))
    pattern.mark({0, page, 1});
  std::uint64_t batches = 0;
  for (auto step : state) {
    state.PauseTiming();
    DirtySet dirty = pattern;
    PagePlanner planner(layout, PagePlanner::ZeroPages::ignore);
    state.ResumeTiming();
    for (PageBatch batch = planner.next(dirty, outstanding, kBatchBytes); !batch.empty();
         batch = planner.next(dirty, outstanding, kBatchBytes))
      ++batches;
  }
  benchmark::DoNotOptimize(batches);
  state.counters["time/dirty_page"] =
      benchmark::Counter(static_cast<double>(pattern.pages()),
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  state.counters["time/page"] =
      benchmark::Counter(static_cast<double>(memory.pages()),
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

BENCHMARK(round)
    ->Name("PlanRound16GiB")
    ->ArgName("stride")
    ->Arg(1)
    ->Arg(2)
    ->Arg(20)
    ->Arg(1000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace ramferry::bench
