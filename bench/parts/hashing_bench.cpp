// SPDX-License-Identifier: MIT
// Hashing a page, as checkpoints and the reference VM's stamps do, and finding out that it is zero.
#include "vm/page_stamp.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

namespace ramferry::bench {
namespace {

constexpr std::size_t kPages = 1024;

void stamp(benchmark::State& state) {
  std::vector<std::byte> memory(kPages * vm::kPageBytes, std::byte{0x5a});
  std::uint32_t generation = 0;
  for (auto step : state) {
    ++generation;
    for (std::size_t page = 0; page < kPages; ++page)
      vm::stamp_page(Bytes(memory).subspan(page * vm::kPageBytes, vm::kPageBytes), page, generation);
    benchmark::DoNotOptimize(memory.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kPages * vm::kPageBytes));
}

BENCHMARK(stamp)->Name("Hash/stamp_page");

}  // namespace
}  // namespace ramferry::bench
