// SPDX-License-Identifier: MIT
// A point in time after which waiting is over.
#pragma once

#include <chrono>

namespace ramferry {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  static Deadline never() noexcept { return Deadline(Clock::time_point::max()); }
  static Deadline after(Clock::duration wait) noexcept {
    const auto now = Clock::now();
    return wait >= Clock::time_point::max() - now ? never() : Deadline(now + wait);
  }
  static Deadline at(Clock::time_point when) noexcept { return Deadline(when); }

  bool is_never() const noexcept { return when_ == Clock::time_point::max(); }
  bool passed() const noexcept { return !is_never() && Clock::now() >= when_; }
  Clock::time_point when() const noexcept { return when_; }
  /// Zero once passed; at most `cap`, so that it can be handed to poll(2) and the like.
  Clock::duration left(Clock::duration cap) const noexcept {
    if (is_never()) return cap;
    const auto rest = when_ - Clock::now();
    return rest <= Clock::duration::zero() ? Clock::duration::zero() : (rest < cap ? rest : cap);
  }

 private:
  explicit Deadline(Clock::time_point when) noexcept : when_(when) {}
  Clock::time_point when_;
};

}  // namespace ramferry
