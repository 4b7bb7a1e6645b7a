// SPDX-License-Identifier: MIT
// Memory to measure with: mapped, and touched or not.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstdint>

namespace ramferry::cli {

class BenchMemory {
 public:
  /// Touched memory has content that is not zero. errc::no_space if there is not as much.
  static Result<BenchMemory> map(std::uint64_t bytes, bool touched);
  BenchMemory() = default;
  BenchMemory(BenchMemory&& other) noexcept;
  BenchMemory& operator=(BenchMemory&& other) noexcept;
  ~BenchMemory();

  Bytes bytes() const noexcept { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace ramferry::cli
