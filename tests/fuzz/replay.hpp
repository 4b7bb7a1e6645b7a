// SPDX-License-Identifier: MIT
// What a fuzz target defines, so that libFuzzer can drive it and so that it also runs, as an ordinary test,
// over inputs made from valid ones.
//
//   extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
//     const ConstBytes input = ramferry::fuzz::input(data, size);
//     …decode; use RAMFERRY_FUZZ_CHECK for what must hold…
//     return 0;
//   }
//   std::vector<Input> ramferry::fuzz::seeds() { return {…valid inputs of every kind…}; }
//
// CMake: ramferry_fuzz_target(name SOURCE fuzz_name.cpp LIBS …). The test runs every seed, every truncation
// of it, then 5,000 (RAMFERRY_LONG=1: 100,000) random mutations. The target is built without NDEBUG, so
// assertions count; it may allocate 256 MiB at most, so an allocation sized by the input fails.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace ramferry::fuzz {

using Input = std::vector<std::byte>;

/// Valid inputs, one of each kind at least. The first bytes of every mutation come from these.
std::vector<Input> seeds();

inline ConstBytes input(const std::uint8_t* data, std::size_t size) noexcept {
  return std::as_bytes(std::span(data, size));
}
inline Input to_input(std::string_view text) {
  const ConstBytes bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

}  // namespace ramferry::fuzz

/// Ends the program with a message unless `condition` holds, whatever the build.
#define RAMFERRY_FUZZ_CHECK(condition)                                                    \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
