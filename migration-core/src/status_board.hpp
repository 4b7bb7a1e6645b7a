// SPDX-License-Identifier: MIT
// One migration's Status, written by the migration thread and read by any; and its state, which several may
// move.
#pragma once

#include <ramferry/clock.hpp>
#include <ramferry/log.hpp>
#include <ramferry/migration/status.hpp>

#include <mutex>
#include <vector>

namespace ramferry::migration {

class StatusBoard {
 public:
  StatusBoard(Clock& clock, Log& log, bool incoming);

  void observe(Observer& observer) { observers_.push_back(&observer); }
  /// The clocks start.
  void start(std::string uri);

  /// The one way to change the state: false if `to` may not follow what it is now. Any thread; observers
  /// hear of the changes in their order.
  bool advance(State to);
  State state() const;
  /// One line of the timeline, for the debug log: by the monotonic clock, which two processes of one host
  /// share.
  void step(std::string_view name) const;

  /// `change` gets the Status under the lock: be quick.
  template <class Change>
  void update(Change change) {
    const std::lock_guard lock(mutex_);
    change(status_);
  }
  void connected(const Facts& facts);
  void failed(const Error& error);
  void cleaned_up();
  void begin_round();
  void add_round(const RoundReport& round);
  Status snapshot() const;
  Clock::Time started() const noexcept { return started_; }

 private:
  Nanoseconds cpu_time() const;

  Clock& clock_;
  Log& log_;
  std::vector<Observer*> observers_;
  std::mutex telling_;  ///< held from a change of state until it is told; before mutex_
  mutable std::mutex mutex_;
  Status status_;
  Clock::Time started_{}, connected_{}, cancelled_{};
  Nanoseconds cpu_at_start_{};
};

}  // namespace ramferry::migration
