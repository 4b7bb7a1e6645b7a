// SPDX-License-Identifier: MIT
// The zero scan against this core's read bandwidth over the same memory. Compare medians of one run, e.g.
//   --benchmark_filter='ZeroScan|PlainRead' --benchmark_repetitions=9
//   --benchmark_enable_random_interleaving=true
#include "guest_memory.hpp"
#include "zero_loops.hpp"

#include <ramferry/migration/zero_page.hpp>

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

namespace ramferry::bench {
namespace {

using migration::PageRun;

constexpr std::uint64_t kBytes = std::uint64_t{1} << 30U;

const GuestMemory& zeros() {
  static const GuestMemory memory(GuestMemory::Kind::anonymous, kBytes);
  static const bool filled = (memory.fill(0), true);
  benchmark::DoNotOptimize(filled);
  return memory;
}

/// The denominator: all bytes loaded once and combined, the compiler's best for this CPU.
#if defined(__x86_64__)
__attribute__((target("avx2"), optimize("O3")))
#endif
std::uint64_t
read_all(ConstBytes bytes) noexcept {
  const auto* words = static_cast<const std::uint64_t*>(static_cast<const void*>(bytes.data()));
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < bytes.size() / sizeof all; ++i) all |= words[i];
  return all;
}

void plain_read(benchmark::State& state) {
  const ConstBytes memory = zeros().bytes();
  for (auto step : state) benchmark::DoNotOptimize(read_all(memory));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kBytes));
}

void split(benchmark::State& state, const GuestMemory& memory) {
  const migration::RamLayout layout = memory.layout();
  for (auto step : state) {
    std::vector<PageRun> pages, zero;
    benchmark::DoNotOptimize(migration::split_zeros(layout, {0, 0, memory.pages()}, pages, zero));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * memory.bytes().size()));
  state.counters["time/page"] =
      benchmark::Counter(static_cast<double>(memory.pages()),
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void zero_pages(benchmark::State& state) {
  split(state, zeros());
}

void portable_loop(benchmark::State& state) {
  const ConstBytes memory = zeros().bytes();
  for (auto step : state)
    for (std::uint64_t at = 0; at < kBytes; at += kPage)
      if (!scan_portable(memory.subspan(at, kPage))) std::abort();
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kBytes));
}

void dense_pages(benchmark::State& state) {
  const GuestMemory memory(GuestMemory::Kind::anonymous, kBytes);
  memory.fill(0x5a);
  split(state, memory);
}

/// The worst: all zero but the last of the bytes that the sample does not see.
void late_pages(benchmark::State& state) {
  const GuestMemory memory(GuestMemory::Kind::anonymous, kBytes);
  memory.fill(0);
  for (std::uint64_t page = 0; page < memory.pages(); ++page)
    memory.bytes()[page * kPage + kPage - 9] = std::byte{1};
  split(state, memory);
}

BENCHMARK(plain_read)->Name("PlainRead")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(zero_pages)->Name("ZeroScan/zero")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(portable_loop)->Name("ZeroScan/zero_portable")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(dense_pages)->Name("ZeroScan/dense")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(late_pages)->Name("ZeroScan/late")->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace ramferry::bench
