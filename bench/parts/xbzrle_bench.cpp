// SPDX-License-Identifier: MIT
// The delta codec, by how much of a page has changed since it was sent last.
#include <ramferry/migration/xbzrle.hpp>

#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <random>
#include <vector>

namespace ramferry::bench {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPages = 1024;  // 4 MiB twice: more than a core's own cache, as in a migration

/// Pages, and the same pages with `changed` bytes of each written in short runs, as a guest's stores would.
struct Pages {
  std::vector<std::byte> before, now;

  explicit Pages(std::size_t changed) : before(kPages * kPageBytes) {
    std::mt19937_64 random(1);
    for (std::byte& each : before) each = static_cast<std::byte>(random());
    now = before;
    constexpr std::size_t kRun = 8;
    for (std::size_t page = 0; page < kPages; ++page) {
      for (std::size_t done = 0; done < changed; done += kRun) {
        const std::size_t at = page * kPageBytes + random() % (kPageBytes / kRun) * kRun;
        for (std::size_t i = 0; i < kRun && done + i < changed; ++i) now[at + i] ^= std::byte{0x5a};
      }
    }
  }
  ConstBytes old_page(std::size_t page) const {
    return ConstBytes(before).subspan(page * kPageBytes, kPageBytes);
  }
  ConstBytes new_page(std::size_t page) const {
    return ConstBytes(now).subspan(page * kPageBytes, kPageBytes);
  }
};

void encode(benchmark::State& state, std::size_t changed) {
  const Pages pages(changed);
  std::array<std::byte, kPageBytes> into;
  std::size_t encoded = 0;
  for (auto step : state) {
    encoded = 0;
    for (std::size_t page = 0; page < kPages; ++page) {
      const auto length = migration::xbzrle_encode(pages.old_page(page), pages.new_page(page), into);
      encoded += length.value_or(kPageBytes);
      benchmark::DoNotOptimize(into);
    }
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kPages * kPageBytes));
  state.counters["encoded/page"] = static_cast<double>(encoded) / kPages;
}

void decode(benchmark::State& state, std::size_t changed) {
  const Pages pages(changed);
  std::vector<std::vector<std::byte>> deltas(kPages, std::vector<std::byte>(kPageBytes));
  for (std::size_t page = 0; page < kPages; ++page)
    deltas[page].resize(
        migration::xbzrle_encode(pages.old_page(page), pages.new_page(page), deltas[page]).value_or(0));
  std::vector<std::byte> target = pages.before;
  for (auto step : state) {
    for (std::size_t page = 0; page < kPages; ++page) {
      if (!migration::xbzrle_decode(deltas[page], Bytes(target).subspan(page * kPageBytes, kPageBytes)))
        state.SkipWithError("a delta of our own was refused");
    }
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * kPages * kPageBytes));
}

BENCHMARK_CAPTURE(encode, unchanged, 0)->Name("Xbzrle/encode_unchanged");
BENCHMARK_CAPTURE(encode, one, kPageBytes / 100)->Name("Xbzrle/encode_1_percent");
BENCHMARK_CAPTURE(encode, ten, kPageBytes / 10)->Name("Xbzrle/encode_10_percent");
BENCHMARK_CAPTURE(decode, one, kPageBytes / 100)->Name("Xbzrle/decode_1_percent");

}  // namespace
}  // namespace ramferry::bench
