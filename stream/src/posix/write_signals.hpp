// SPDX-License-Identifier: MIT
// Keeps write(2) from killing the process: SIGPIPE and SIGXFSZ are held back in this thread while an object
// lives, and those that the writes raised are taken away. Nothing of the process's own set-up changes.
#pragma once

#include <signal.h>

namespace ramferry::posix {

class WriteSignalsHeldBack {
 public:
  WriteSignalsHeldBack() noexcept;
  ~WriteSignalsHeldBack();
  WriteSignalsHeldBack(const WriteSignalsHeldBack&) = delete;
  WriteSignalsHeldBack& operator=(const WriteSignalsHeldBack&) = delete;

 private:
  sigset_t raised_by_writes_{};  ///< without those that were pending before: they are not ours
  sigset_t mask_before_{};
};

}  // namespace ramferry::posix
