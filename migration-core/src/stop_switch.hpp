// SPDX-License-Identifier: MIT
// Decides once whether a migration is cancelled or committed, and wakes who sleeps or waits when it is
// cancelled.
#pragma once

#include <ramferry/clock.hpp>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>

namespace ramferry::migration {

/// Any thread.
class StopSwitch {
 public:
  /// True if this call cancelled: not if it was cancelled or committed before.
  bool cancel();
  /// True unless it was cancelled: from now on cancel() has no effect.
  bool commit();
  bool cancelled() const;
  bool committed() const;

  /// Sleeps until `when`, at most; false as soon as cancelled.
  bool sleep_until(Clock::Time when);
  /// The same, and no longer than until `enough` is true; who sets it calls wake().
  bool sleep_until(Clock::Time when, const std::atomic<bool>& enough);
  void wake();

  /// What cancel() does to unblock the migration thread; empty while there is nothing to unblock. Called at
  /// once if cancel() came before. When this returned the action before is not running any more.
  void on_cancel(std::function<void()> unblock);

 private:
  enum class Fate { open, cancelled, committed };

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Fate fate_ = Fate::open;
  std::function<void()> unblock_;
};

}  // namespace ramferry::migration
