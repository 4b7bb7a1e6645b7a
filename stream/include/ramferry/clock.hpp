// SPDX-License-Identifier: MIT
// Time as policy sees it, so that tests can move it by hand. Transports wait on the system's clock.
#pragma once

#include <chrono>

namespace ramferry {

class Clock {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  virtual ~Clock() = default;
  virtual Time now() const noexcept = 0;
  virtual void sleep_until(Time when) = 0;
};

/// The machine's monotonic clock.
class SystemClock final : public Clock {
 public:
  Time now() const noexcept override { return std::chrono::steady_clock::now(); }
  void sleep_until(Time when) override;
};

}  // namespace ramferry
