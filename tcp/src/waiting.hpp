// SPDX-License-Identifier: MIT
// Waiting on a condition variable until a Deadline.
#pragma once

#include <ramferry/deadline.hpp>

#include <condition_variable>
#include <mutex>

namespace ramferry::tcp {

/// Whether `done` came true before the deadline.
template <class Predicate>
bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, Deadline deadline,
                Predicate done) {
  if (deadline.is_never()) {
    changed.wait(lock, done);
    return true;
  }
  return changed.wait_until(lock, deadline.when(), done);
}

}  // namespace ramferry::tcp
