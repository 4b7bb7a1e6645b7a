// SPDX-License-Identifier: MIT
// Lets one thread tell another, which waits in poll(), that something has changed.
#pragma once

#include <ramferry/unique_fd.hpp>

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace ramferry::cli {

class Doorbell {
 public:
  Doorbell() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  /// Readable when it was rung since the last silence().
  int fd() const noexcept { return fd_.get(); }
  /// Any thread.
  void ring() noexcept {
    const std::uint64_t once = 1;
    [[maybe_unused]] const auto written = ::write(fd_.get(), &once, sizeof once);
  }
  void silence() noexcept {
    std::uint64_t times = 0;
    [[maybe_unused]] const auto taken = ::read(fd_.get(), &times, sizeof times);
  }

 private:
  UniqueFd fd_;
};

}  // namespace ramferry::cli
