// SPDX-License-Identifier: MIT
#include "announcer.hpp"

#include <algorithm>

namespace ramferry::migration {

std::chrono::milliseconds announce_delay(const AnnounceSchedule& schedule, unsigned round) noexcept {
  if (round == 0) return schedule.initial;
  return std::min(schedule.initial + schedule.step * (round - 1), schedule.most);
}

void Announcer::start(const AnnounceSchedule& schedule) {
  stop();
  const std::lock_guard starting(starting_);
  if (thread_.joinable()) return;  // somebody else's start
  thread_ = std::thread([this, schedule] { run(schedule); });
}

void Announcer::stop() {
  const std::lock_guard starting(starting_);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  stopping_ = false;
}

void Announcer::run(const AnnounceSchedule& schedule) {
  for (unsigned round = 0; round < schedule.rounds; ++round) {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, announce_delay(schedule, round), [this] { return stopping_; })) return;
    lock.unlock();
    announce_(round + 1);
  }
}

}  // namespace ramferry::migration
