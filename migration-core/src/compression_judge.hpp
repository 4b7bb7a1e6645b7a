// SPDX-License-Identifier: MIT
// Whether compressing pays, found out by trying both ways now and then. Pure arithmetic; one thread.
#pragma once

#include <ramferry/migration/status.hpp>

#include <array>
#include <cstdint>

namespace ramferry::migration {

class CompressionJudge {
 public:
  static constexpr std::uint64_t kTrialBytes = 256ULL << 10;  ///< what a trial sends; less says nothing
  static constexpr std::uint64_t kTrialEvery = 16ULL << 20;   ///< at least so much goes between two trials

  /// The better way, as far as is known; at first pages go as they are.
  bool compress() const noexcept { return compress_; }
  /// Whether the next kTrialBytes should go the other way.
  bool try_other() const noexcept { return since_trial_ >= wait_; }
  /// So much of the guest went that way, which took `took`, or would have on a link as slow as the limit.
  void note(bool compressed, std::uint64_t guest_bytes, Nanoseconds took) noexcept;

 private:
  /// What a byte costs each way, in ns; 0 = not known. [1] is compressed.
  std::array<double, 2> cost_{};
  bool compress_ = false;
  std::uint64_t since_trial_ = 0, wait_ = 0;  ///< guest bytes
};

}  // namespace ramferry::migration
