// SPDX-License-Identifier: MIT
// What tracking costs, by tracker and memory: arming, a harvest by how much is dirty, and the guest's first
// write to a page after it.
#include "guest_memory.hpp"

#include <ramferry/migration/dirty_tracker.hpp>

#include <benchmark/benchmark.h>

#include <memory>
#include <string>

namespace ramferry::bench {
namespace {

using migration::DirtySet;
using migration::DirtyTracker;
using migration::RamLayout;
using migration::TrackerKind;

constexpr std::uint64_t kBytes = std::uint64_t{1} << 30U;

std::unique_ptr<DirtyTracker> start(benchmark::State& state, TrackerKind kind, const RamLayout& layout) {
  NullLog log;
  auto tracker = migration::make_tracker(kind, layout, log);
  if (tracker) return std::move(tracker).value();
  state.SkipWithError(tracker.error().message().c_str());
  return nullptr;
}

void must(benchmark::State& state, const Result<>& done) {
  if (!done) state.SkipWithError(done.error().message().c_str());
}

void arm(benchmark::State& state, TrackerKind kind, GuestMemory::Kind memory_kind, bool touched) {
  const GuestMemory memory(memory_kind, kBytes);
  if (touched) memory.fill(1);
  const RamLayout layout = memory.layout();
  for (auto step : state) {
    state.PauseTiming();
    const auto tracker = start(state, kind, layout);
    if (!tracker) return;
    state.ResumeTiming();
    must(state, tracker->arm({0, 0, memory.pages()}));
    state.PauseTiming();
    tracker->stop();
    state.ResumeTiming();
  }
}

/// Every `range(0)`th page is dirty; 0: none.
void harvest(benchmark::State& state, TrackerKind kind, GuestMemory::Kind memory_kind) {
  const GuestMemory memory(memory_kind, kBytes);
  memory.fill(1);
  const RamLayout layout = memory.layout();
  const auto tracker = start(state, kind, layout);
  if (!tracker) return;
  must(state, tracker->arm({0, 0, memory.pages()}));
  DirtySet dirty(layout);
  const auto stride = static_cast<std::uint64_t>(state.range(0));
  for (auto step : state) {
    state.PauseTiming();
    for (std::uint64_t page = 0; stride > 0 && page < memory.pages(); page += stride) memory.write(page, 2);
    dirty.clear_all();
    state.ResumeTiming();
    must(state, tracker->harvest(dirty));
  }
  state.counters["dirty"] = static_cast<double>(dirty.pages());
}

void first_write(benchmark::State& state, TrackerKind kind, GuestMemory::Kind memory_kind) {
  const GuestMemory memory(memory_kind, kBytes / 16);
  memory.fill(1);
  const RamLayout layout = memory.layout();
  const auto tracker = start(state, kind, layout);
  if (!tracker) return;
  must(state, tracker->arm({0, 0, memory.pages()}));
  for (auto step : state) {
    for (std::uint64_t page = 0; page < memory.pages(); ++page) memory.write(page, 2);
    state.PauseTiming();
    DirtySet dirty(layout);
    must(state, tracker->harvest(dirty));
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * memory.pages()));
}

const int kRegistered = [] {
  using Memory = GuestMemory::Kind;
  for (const TrackerKind kind : {TrackerKind::pagemap_scan, TrackerKind::userfaultfd})
    for (const Memory memory : {Memory::anonymous, Memory::memfd}) {
      const std::string of =
          std::string(kind == TrackerKind::userfaultfd ? "userfaultfd/" : "pagemap_scan/") +
          (memory == Memory::memfd ? "memfd" : "anonymous");
      for (const bool touched : {false, true})
        benchmark::RegisterBenchmark(("Arm1GiB/" + of + (touched ? "/touched" : "/untouched")).c_str(),
                                     [=](benchmark::State& state) { arm(state, kind, memory, touched); })
            ->Unit(benchmark::kMillisecond)
            ->Iterations(5)
            ->UseRealTime();
      benchmark::RegisterBenchmark(("Harvest1GiB/" + of).c_str(),
                                   [=](benchmark::State& state) { harvest(state, kind, memory); })
          ->ArgName("stride")
          ->Arg(0)
          ->Arg(20)
          ->Arg(2)
          ->Arg(1)
          ->Unit(benchmark::kMillisecond)
          ->Iterations(5)
          ->UseRealTime();
      benchmark::RegisterBenchmark(("FirstWrite/" + of).c_str(),
                                   [=](benchmark::State& state) { first_write(state, kind, memory); })
          ->Unit(benchmark::kMillisecond)
          ->Iterations(5)
          ->UseRealTime();
    }
  return 0;
}();

}  // namespace
}  // namespace ramferry::bench
