// SPDX-License-Identifier: MIT
// Whether compressing pays, found out by trying both ways now and then. Pure arithmetic; one thread.
#pragma once

#include <ramferry/migration/status.hpp>

#include <array>
#include <cstdint>

namespace ramferry::migration {

class CompressionJudge {
 public:
  static constexpr std::uint64_t kLeastBytes = 256 * 1024;  ///< a batch of less says nothing
  static constexpr unsigned kTryEvery = 16;                 ///< batches one way before the other way is tried

  /// Which way the next batch should go.
  bool compress_next() const noexcept { return compress_; }
  /// A batch of `guest_bytes` went that way, which took `took`, or would have on a link as slow as the limit.
  void note(bool compressed, std::uint64_t guest_bytes, Nanoseconds took) noexcept;

 private:
  /// What a byte costs each way, in ns; 0 = not tried yet. [1] is compressed.
  std::array<double, 2> cost_{};
  bool compress_ = true;
  unsigned same_way_ = 0;
};

}  // namespace ramferry::migration
