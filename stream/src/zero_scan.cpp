// SPDX-License-Identifier: MIT
#include "zero_loops.hpp"

#include <ramferry/zero_scan.hpp>

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ramferry {
namespace {

constexpr std::size_t kLine = 64;

using Word __attribute__((aligned(1), may_alias)) = std::uint64_t;

RAMFERRY_READS_GUEST_MEMORY std::uint64_t load(const std::byte* at) noexcept {
  return *static_cast<const volatile Word*>(static_cast<const void*>(at));
}

RAMFERRY_READS_GUEST_MEMORY bool tail_is_zero(ConstBytes bytes) noexcept {
  const volatile std::byte* at = bytes.data();
  std::byte all{0};
  for (std::size_t i = 0; i < bytes.size(); ++i) all |= at[i];
  return all == std::byte{0};
}

}  // namespace

RAMFERRY_READS_GUEST_MEMORY bool scan_portable(ConstBytes bytes) noexcept {
  for (; bytes.size() >= kLine; bytes = bytes.subspan(kLine)) {
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < kLine; i += sizeof all) all |= load(bytes.data() + i);
    if (all != 0) return false;
  }
  for (; bytes.size() >= sizeof(Word); bytes = bytes.subspan(sizeof(Word)))
    if (load(bytes.data()) != 0) return false;
  return tail_is_zero(bytes);
}

#if defined(__x86_64__)
namespace {

constexpr std::size_t kStep = 256;  // bytes looked at between two branches
/// Where the lines fetched meanwhile are. The processor does this by itself within a page of 4 KiB only;
/// behind the end of memory it is harmless.
constexpr std::size_t kAhead = 2048;

__attribute__((target("avx2"))) RAMFERRY_READS_GUEST_MEMORY inline __m256i load_wide(
    const std::byte* at) noexcept {
  return *static_cast<const volatile __m256i_u*>(static_cast<const void*>(at));
}

__attribute__((target("avx2"))) RAMFERRY_READS_GUEST_MEMORY bool avx2(ConstBytes bytes) noexcept {
  const std::byte* at = bytes.data();
  const std::byte* const end = at + bytes.size() / kStep * kStep;
  for (; at != end; at += kStep) {
    for (std::size_t i = 0; i < kStep; i += kLine) __builtin_prefetch(at + kAhead + i);
    __m256i all = load_wide(at);
    for (std::size_t i = sizeof all; i < kStep; i += sizeof all)
      all = _mm256_or_si256(all, load_wide(at + i));
    if (_mm256_testz_si256(all, all) == 0) return false;
  }
  return scan_portable(bytes.subspan(bytes.size() / kStep * kStep));
}

}  // namespace

ZeroScan scan_avx2() noexcept {
  return __builtin_cpu_supports("avx2") != 0 ? &avx2 : nullptr;
}
#else
ZeroScan scan_avx2() noexcept {
  return nullptr;
}
#endif

ZeroScan best_zero_scan() noexcept {
  static const ZeroScan best = scan_avx2() != nullptr ? scan_avx2() : &scan_portable;
  return best;
}

namespace {

/// Most pages in use differ from zero within their first word. Words further on are not worth a look: they
/// break the stream of lines that the processor fetches ahead, which costs huge pages of zeros a tenth.
bool sample_is_zero(ConstBytes page) noexcept {
  constexpr std::size_t kSample = 8;
  return page.size() < kSample || scan_portable(page.first(kSample));
}

}  // namespace

bool is_zero(ConstBytes page) noexcept {
  return sample_is_zero(page) && best_zero_scan()(page);
}

}  // namespace ramferry
