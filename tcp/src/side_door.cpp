// SPDX-License-Identifier: MIT
#include "side_door.hpp"

#include "waiting.hpp"

#include <string>

namespace ramferry::tcp {

void SideDoor::admit(std::size_t most) {
  const std::lock_guard lock(mutex_);
  most_ = most;
}

bool SideDoor::put(std::uint32_t number, UniqueFd& socket) {
  const std::lock_guard lock(mutex_);
  if (closed_ || waiting_.size() >= most_ || abandoned_.count(number) != 0) return false;
  if (!waiting_.try_emplace(number, std::move(socket)).second) return false;
  changed_.notify_all();
  return true;
}

Result<UniqueFd> SideDoor::take(std::uint32_t number, Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto here = [&] { return waiting_.count(number) != 0; };
  const bool done = wait_until(changed_, lock, deadline,
                               [&] { return here() || closed_ || abandoned_.count(number) != 0; });
  const bool unwanted = closed_ || abandoned_.erase(number) != 0;
  auto found = waiting_.extract(number);
  if (unwanted) return fail(errc::cancelled, "waiting for side stream " + std::to_string(number));
  if (!done)
    return fail(errc::timed_out, "waiting for side stream " + std::to_string(number),
                "does anything between the two ends allow one connection only?");
  return std::move(found.mapped());
}

void SideDoor::abandon(std::uint32_t number) noexcept {
  const std::lock_guard lock(mutex_);
  abandoned_.insert(number);
  waiting_.erase(number);
  changed_.notify_all();
}

void SideDoor::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  waiting_.clear();
  changed_.notify_all();
}

}  // namespace ramferry::tcp
