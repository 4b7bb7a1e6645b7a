// SPDX-License-Identifier: MIT
#include "compression_judge.hpp"

#include <algorithm>

namespace ramferry::migration {

void CompressionJudge::note(bool compressed, std::uint64_t guest_bytes, Nanoseconds took) noexcept {
  if (guest_bytes < kLeastBytes) return;
  // Half of what it was and half of what it is: the content changes along memory, and so does the link.
  const double now =
      static_cast<double>(std::max<std::int64_t>(took.count(), 1)) / static_cast<double>(guest_bytes);
  double& cost = cost_[compressed ? 1 : 0];
  cost = cost > 0 ? (cost + now) / 2 : now;
  same_way_ = compressed == compress_ ? same_way_ + 1 : 0;

  const bool other_untried = cost_[compress_ ? 0 : 1] <= 0;
  if (other_untried ? same_way_ >= 2 : same_way_ >= kTryEvery) {
    compress_ = !compress_;
    same_way_ = 0;
  } else if (!other_untried) {
    const bool better = cost_[1] < cost_[0];
    if (better != compress_) {
      compress_ = better;
      same_way_ = 0;
    }
  }
}

}  // namespace ramferry::migration
