// SPDX-License-Identifier: MIT
// A fast, repeatable stream of numbers (SplitMix64). Not for secrets.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstdint>
#include <cstring>

namespace ramferry::vm {

class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// 0 … bound - 1; `bound` is not zero.
  std::uint64_t below(std::uint64_t bound) noexcept {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  /// 0 ≤ x < 1.
  double unit() noexcept { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  void fill(Bytes into) noexcept {
    while (!into.empty()) {
      const std::uint64_t word = next();
      const std::size_t part = into.size() < sizeof word ? into.size() : sizeof word;
      std::memcpy(into.data(), &word, part);
      into = into.subspan(part);
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace ramferry::vm
