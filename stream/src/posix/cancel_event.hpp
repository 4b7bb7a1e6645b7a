// SPDX-License-Identifier: MIT
// Waiting for a descriptor in a way that another thread can end. Any thread; once set it stays set.
#pragma once

#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <atomic>
#include <string>

namespace ramferry::posix {

class CancelEvent {
 public:
  CancelEvent();

  void set() noexcept;
  bool is_set() const noexcept { return set_; }
  /// Until `fd` has one of poll(2)'s `events`, or an error or hang-up that the next call on it will tell.
  /// errc::cancelled or errc::timed_out else.
  Result<> wait(int fd, short events, Deadline deadline, const std::string& doing) const;

 private:
  std::atomic<bool> set_{false};
  UniqueFd
      event_;  ///< readable once set; if there was no descriptor left for it, wait() looks every now and then
};

}  // namespace ramferry::posix
