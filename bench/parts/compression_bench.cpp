// SPDX-License-Identifier: MIT
// The compression codec on text, shared out among threads as a migration does: 64 pieces at once.
#include "page_codec.hpp"
#include "worker_pool.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

namespace ramferry::bench {
namespace {

using migration::CompressMethod;
using migration::page_codec::kPieceBytes;

constexpr std::size_t kPieces = 64;

/// Words in random order: compresses as logs and sources do.
std::vector<std::byte> text() {
  constexpr std::string_view kWords[] = {"memory",  "page ",        "dirty ", "round ", "channel ",
                                         "fence\n", "slot, ",       "the ",   "of a ",  "0x7fff",
                                         "error: ", "destination ", "1024 ",  "{",      "}\n"};
  std::mt19937_64 random(3);
  std::vector<std::byte> bytes;
  while (bytes.size() < kPieces * kPieceBytes) {
    const ConstBytes word = as_bytes(kWords[random() % std::size(kWords)]);
    bytes.insert(bytes.end(), word.begin(), word.end());
  }
  return bytes;
}

void compress(benchmark::State& state, CompressMethod method, unsigned threads) {
  const std::vector<std::byte> content = text();
  std::vector<std::byte> into(kPieces * kPieceBytes);
  const migration::PageCoding coding{.compress = true, .method = method, .threads = threads};
  migration::WorkerPool workers(threads);
  std::vector<std::size_t> lengths(kPieces);
  for (auto step : state) {
    workers.run(kPieces, [&](std::size_t piece) {
      const std::size_t at = piece * kPieceBytes;
      lengths[piece] = migration::page_codec::compress(coding, ConstBytes(content).subspan(at, kPieceBytes),
                                                       Bytes(into).subspan(at, kPieceBytes));
    });
  }
  std::size_t total = 0;
  for (const std::size_t length : lengths) total += length == 0 ? kPieceBytes : length;
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kPieces * kPieceBytes));
  state.counters["ratio"] = static_cast<double>(kPieces * kPieceBytes) / static_cast<double>(total);
}

BENCHMARK_CAPTURE(compress, zstd_1, CompressMethod::zstd, 1U)->Name("Compression/1_thread")->UseRealTime();
BENCHMARK_CAPTURE(compress, zstd_2, CompressMethod::zstd, 2U)->Name("Compression/2_threads")->UseRealTime();
BENCHMARK_CAPTURE(compress, zlib_1, CompressMethod::zlib, 1U)
    ->Name("Compression/zlib_1_thread")
    ->UseRealTime();
BENCHMARK_CAPTURE(compress, zlib_2, CompressMethod::zlib, 2U)
    ->Name("Compression/zlib_2_threads")
    ->UseRealTime();

}  // namespace
}  // namespace ramferry::bench
