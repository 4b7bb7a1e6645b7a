// SPDX-License-Identifier: MIT
#include "posix/write_signals.hpp"

#include <cerrno>
#include <ctime>
#include <initializer_list>

namespace ramferry::posix {

WriteSignalsHeldBack::WriteSignalsHeldBack() noexcept {
  sigset_t pending{};
  ::sigpending(&pending);
  ::sigemptyset(&raised_by_writes_);
  for (const int number : {SIGPIPE, SIGXFSZ})
    if (::sigismember(&pending, number) == 0) ::sigaddset(&raised_by_writes_, number);
  ::pthread_sigmask(SIG_BLOCK, &raised_by_writes_, &mask_before_);
}

WriteSignalsHeldBack::~WriteSignalsHeldBack() {
  const int error_number = errno;
  const timespec at_once{};
  while (::sigtimedwait(&raised_by_writes_, nullptr, &at_once) > 0) {
  }
  ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  errno = error_number;
}

}  // namespace ramferry::posix
