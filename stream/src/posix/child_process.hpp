// SPDX-License-Identifier: MIT
// A shell command as a child process, and how it ended. Never forks: guest memory may be mapped.
#pragma once

#include "posix/cancel_event.hpp"

#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <sys/types.h>

#include <optional>
#include <string>

namespace ramferry::posix {

/// One thread at a time. Destroyed before it was waited for, it ends the command and all that it started:
/// SIGTERM, and half a second later SIGKILL.
class ChildProcess {
 public:
  enum class Connects { standard_input, standard_output };

  /// Runs /bin/sh -c `command` in a process group of its own. Of our descriptors it gets `ours`, as standard
  /// input or output; besides, standard error, which is also its output if it has no other, and an empty
  /// input likewise.
  static Result<ChildProcess> run(const std::string& command, Connects connects, UniqueFd ours);

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  /// Waits until it has ended. errc::peer_failed with the exit status unless that is 0; errc::peer_gone if a
  /// signal ended it.
  Result<> wait(const CancelEvent& cancel, Deadline deadline);

 private:
  ChildProcess(std::string command, pid_t id) noexcept : command_(std::move(command)), id_(id) {}
  void reap() noexcept;
  Result<> verdict() const;

  std::string command_;
  pid_t id_ = -1;  ///< -1 when moved from
  UniqueFd handle_;
  std::optional<int> status_;  ///< of waitpid(2), once it has ended
};

}  // namespace ramferry::posix
