// SPDX-License-Identifier: MIT
// SIGINT and SIGTERM as something to wait for, instead of something that happens.
#pragma once

#include <ramferry/unique_fd.hpp>

namespace ramferry::cli {

/// Blocks the signals for this thread and all that it starts later: make one before any thread. SIGPIPE is
/// ignored.
class StopSignals {
 public:
  StopSignals();
  int fd() const noexcept { return fd_.get(); }
  /// Takes a signal that has arrived; false if none has.
  bool take() noexcept;

 private:
  UniqueFd fd_;
};

}  // namespace ramferry::cli
