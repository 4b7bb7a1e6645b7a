// SPDX-License-Identifier: MIT
// Tells the network where a guest is now, several times, further and further apart. Any thread.
#pragma once

#include <ramferry/migration/vm_controller.hpp>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace ramferry::migration {

/// How long after the round before (or after the start) round `round` is due; from 0.
std::chrono::milliseconds announce_delay(const AnnounceSchedule& schedule, unsigned round) noexcept;

class Announcer {
 public:
  /// `announce` is called on a thread of this object.
  explicit Announcer(std::function<void(unsigned round)> announce) : announce_(std::move(announce)) {}
  ~Announcer() { stop(); }

  /// Begins again if rounds are under way.
  void start(const AnnounceSchedule& schedule);
  void stop();

 private:
  void run(const AnnounceSchedule& schedule);

  const std::function<void(unsigned round)> announce_;
  std::mutex starting_;  ///< one start() or stop() at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ramferry::migration
