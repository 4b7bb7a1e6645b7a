// SPDX-License-Identifier: MIT
// What registering and forgetting memory costs on this machine's first RDMA device; skipped where there is
// none.
#include "guest_memory.hpp"

#include <benchmark/benchmark.h>
#include <infiniband/verbs.h>

#include <cstdint>

namespace ramferry::bench {
namespace {

/// The first device, for as long as the program runs.
ibv_pd* protection_domain() {
  static ibv_pd* const domain = []() -> ibv_pd* {
    int count = 0;
    ibv_device** const devices = ibv_get_device_list(&count);
    ibv_context* const context = count > 0 ? ibv_open_device(devices[0]) : nullptr;
    if (devices != nullptr) ibv_free_device_list(devices);
    return context != nullptr ? ibv_alloc_pd(context) : nullptr;
  }();
  return domain;
}

void registration(benchmark::State& state, bool touched) {
  ibv_pd* const domain = protection_domain();
  if (domain == nullptr) {
    state.SkipWithError("no RDMA device");
    return;
  }
  const auto bytes = static_cast<std::uint64_t>(state.range(0));
  for (auto step : state) {
    state.PauseTiming();
    const GuestMemory memory(GuestMemory::Kind::anonymous, bytes);
    if (touched) memory.fill(1);
    state.ResumeTiming();
    ibv_mr* const region = ibv_reg_mr(domain, memory.bytes().data(), bytes, IBV_ACCESS_LOCAL_WRITE);
    if (region == nullptr) {
      state.SkipWithError("the device refused: see RLIMIT_MEMLOCK");
      return;
    }
    state.PauseTiming();
    ibv_dereg_mr(region);
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK_CAPTURE(registration, touched, true)
    ->Name("Registration/touched")
    ->Range(64 << 10, 256 << 20)
    ->UseRealTime();
BENCHMARK_CAPTURE(registration, fresh, false)
    ->Name("Registration/fresh")
    ->Range(64 << 10, 256 << 20)
    ->UseRealTime();

}  // namespace
}  // namespace ramferry::bench
