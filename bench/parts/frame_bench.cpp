// SPDX-License-Identifier: MIT
// The frame codec of sockets: what a header costs when pages are scattered, and when they are not.
#include "frame.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

namespace ramferry::bench {
namespace {

std::vector<tcp::Extent> scattered(std::size_t count) {
  std::vector<tcp::Extent> extents;
  for (std::size_t i = 0; i < count; ++i)
    extents.push_back({.slot = SlotId{1}, .offset = i * 8192, .length = 4096, .bytes = 4096});
  return extents;
}

void encode(benchmark::State& state) {
  const auto extents = scattered(static_cast<std::size_t>(state.range(0)));
  std::vector<std::byte> frame;
  for (auto step : state) {
    frame.clear();
    tcp::encode_place(extents, frame);
    benchmark::DoNotOptimize(frame.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void decode(benchmark::State& state) {
  std::vector<std::byte> frame;
  tcp::encode_place(scattered(static_cast<std::size_t>(state.range(0))), frame);
  std::vector<tcp::Extent> extents;
  for (auto step : state) {
    const tcp::HeaderBytes header(frame.data(), tcp::kHeaderBytes);
    extents.clear();
    if (!tcp::decode_header(header) ||
        !tcp::decode_extents(header, ConstBytes(frame).subspan(tcp::kHeaderBytes), extents))
      state.SkipWithError("a frame of our own was refused");
    benchmark::DoNotOptimize(extents.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

BENCHMARK(encode)->Name("Frame/encode_extents")->Arg(1)->Arg(1000);
BENCHMARK(decode)->Name("Frame/decode_extents")->Arg(1)->Arg(1000);

}  // namespace
}  // namespace ramferry::bench
