// SPDX-License-Identifier: MIT
#include "side_door.hpp"

#include "waiting.hpp"

#include <iterator>
#include <string>
#include <utility>

namespace ramferry::tcp {

void SideDoor::admit(std::size_t most_early) {
  const std::lock_guard lock(mutex_);
  most_early_ = most_early;
}

bool SideDoor::expect(std::uint32_t number) {
  const std::lock_guard lock(mutex_);
  if (number <= newest_) return false;
  waiting_.erase(waiting_.upper_bound(newest_), waiting_.lower_bound(number));  // came early, never announced
  newest_ = number;
  if (!closed_) expected_.insert(number);
  return true;
}

bool SideDoor::put(std::uint32_t number, UniqueFd& socket) {
  const std::lock_guard lock(mutex_);
  const auto early = [&] {
    return static_cast<std::size_t>(std::distance(waiting_.upper_bound(newest_), waiting_.end()));
  };
  const bool wanted = number > newest_ ? early() < most_early_ : expected_.count(number) != 0;
  if (closed_ || !wanted || !waiting_.try_emplace(number, std::move(socket)).second) return false;
  changed_.notify_all();
  return true;
}

Result<UniqueFd> SideDoor::take(std::uint32_t number, Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto expected = [&] { return expected_.count(number) != 0; };
  wait_until(changed_, lock, deadline, [&] { return waiting_.count(number) != 0 || !expected(); });
  if (expected_.erase(number) == 0)
    return fail(errc::cancelled, "waiting for side stream " + std::to_string(number));
  auto found = waiting_.extract(number);
  if (!found)
    return fail(errc::timed_out, "waiting for side stream " + std::to_string(number),
                "does anything between the two ends allow one connection only?");
  return std::move(found.mapped());
}

void SideDoor::abandon(std::uint32_t number) noexcept {
  const std::lock_guard lock(mutex_);
  if (expected_.erase(number) == 0) return;
  waiting_.erase(number);
  changed_.notify_all();
}

void SideDoor::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  expected_.clear();
  waiting_.clear();
  changed_.notify_all();
}

std::size_t SideDoor::remembered() const {
  const std::lock_guard lock(mutex_);
  return expected_.size() + waiting_.size();
}

}  // namespace ramferry::tcp
