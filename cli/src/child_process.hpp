// SPDX-License-Identifier: MIT
// Another `ramferry`, run by this one. It does not outlive its owner, however that ends.
#pragma once

#include <ramferry/error.hpp>

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::cli {

class ChildProcess {
 public:
  /// Runs this program with `arguments`, in a process group of its own: Ctrl-C is ours to handle.
  static Result<ChildProcess> start(const std::vector<std::string>& arguments);
  ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  ChildProcess& operator=(ChildProcess&&) = delete;
  /// Asks it to end, then makes it.
  ~ChildProcess();

  /// Its exit status, 128 + N for signal N, once it has ended.
  std::optional<int> ended();
  std::optional<int> wait(std::chrono::milliseconds at_most);

 private:
  explicit ChildProcess(pid_t pid) noexcept : pid_(pid) {}
  pid_t pid_;
  std::optional<int> status_;
};

}  // namespace ramferry::cli
