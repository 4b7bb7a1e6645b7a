// SPDX-License-Identifier: MIT
// One owner for one file descriptor.
#pragma once

#include <utility>

namespace ramferry {

class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  /// Closes what it owned and owns `fd` from now on.
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

}  // namespace ramferry
