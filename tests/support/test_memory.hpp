// SPDX-License-Identifier: MIT
// Memory for tests: mapped, so that pages that were never touched can be told from those that were.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstddef>
#include <cstdint>

namespace ramferry::test {

inline constexpr std::size_t kPage = 4096;

/// An anonymous private mapping, zero and untouched at first. Aborts the test program if there is no memory.
class TestMemory {
 public:
  explicit TestMemory(std::size_t size);
  TestMemory(TestMemory&& other) noexcept : bytes_(other.bytes_) { other.bytes_ = {}; }
  TestMemory& operator=(TestMemory&&) = delete;
  ~TestMemory();

  Bytes bytes() const noexcept { return bytes_; }
  Bytes slice(std::size_t offset, std::size_t length) const noexcept {
    return bytes_.subspan(offset, length);
  }

 private:
  Bytes bytes_;
};

/// Pages of a mapping that are in memory now.
std::size_t resident_pages(ConstBytes mapping);

/// Content that depends on every bit of `seed`, and on nothing else.
void fill_pattern(Bytes bytes, std::uint64_t seed) noexcept;
bool has_pattern(ConstBytes bytes, std::uint64_t seed) noexcept;
bool is_all(ConstBytes bytes, std::byte value) noexcept;

/// How often to repeat what is random: `usual` times, or `thorough` times when RAMFERRY_LONG=1 is set.
unsigned repetitions(unsigned usual, unsigned thorough) noexcept;

}  // namespace ramferry::test
