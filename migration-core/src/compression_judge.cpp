// SPDX-License-Identifier: MIT
#include "compression_judge.hpp"

#include <algorithm>

namespace ramferry::migration {

void CompressionJudge::note(bool compressed, std::uint64_t guest_bytes, Nanoseconds took) noexcept {
  const bool trial = compressed != compress_;
  since_trial_ = trial ? 0 : since_trial_ + guest_bytes;
  if (guest_bytes < kTrialBytes) return;
  // Half of what it was and half of what it is: the content changes along memory, and so does the link.
  const double now =
      static_cast<double>(std::max<std::int64_t>(took.count(), 1)) / static_cast<double>(guest_bytes);
  double& cost = cost_[compressed ? 1 : 0];
  cost = cost > 0 ? (cost + now) / 2 : now;

  const double best = std::min(cost_[0], cost_[1]);
  if (best <= 0) return;
  // By a margin: what is as good costs processors for nothing.
  compress_ = cost_[1] < 0.95 * cost_[0];
  // The worse the other way is, the rarer it is tried: all trials together cost two parts in a hundred.
  const double worse_by = std::max(cost_[0], cost_[1]) / best - 1;
  constexpr double kMostWait = 1e15;
  const double wait = worse_by * static_cast<double>(kTrialBytes) * 50;
  wait_ = std::max(kTrialEvery, static_cast<std::uint64_t>(std::min(wait, kMostWait)));
}

}  // namespace ramferry::migration
