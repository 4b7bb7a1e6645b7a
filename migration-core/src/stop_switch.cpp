// SPDX-License-Identifier: MIT
#include "stop_switch.hpp"

namespace ramferry::migration {

bool StopSwitch::cancel() {
  const std::lock_guard lock(mutex_);
  if (fate_ != Fate::open) return false;
  fate_ = Fate::cancelled;
  if (unblock_) unblock_();
  changed_.notify_all();
  return true;
}

bool StopSwitch::commit() {
  const std::lock_guard lock(mutex_);
  if (fate_ == Fate::open) fate_ = Fate::committed;
  return fate_ == Fate::committed;
}

bool StopSwitch::cancelled() const {
  const std::lock_guard lock(mutex_);
  return fate_ == Fate::cancelled;
}

bool StopSwitch::committed() const {
  const std::lock_guard lock(mutex_);
  return fate_ == Fate::committed;
}

bool StopSwitch::sleep_until(Clock::Time when) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_until(lock, when, [this] { return fate_ == Fate::cancelled; });
}

bool StopSwitch::sleep_until(Clock::Time when, const std::atomic<bool>& enough) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, when, [&] { return fate_ == Fate::cancelled || enough; });
  return fate_ != Fate::cancelled;
}

void StopSwitch::wake() {
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void StopSwitch::on_cancel(std::function<void()> unblock) {
  const std::lock_guard lock(mutex_);
  unblock_ = std::move(unblock);
  if (unblock_ && fate_ == Fate::cancelled) unblock_();
}

}  // namespace ramferry::migration
