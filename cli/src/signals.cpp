// SPDX-License-Identifier: MIT
#include "signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

namespace ramferry::cli {

StopSignals::StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  fd_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  std::signal(SIGPIPE, SIG_IGN);
}

bool StopSignals::take() noexcept {
  signalfd_siginfo info;
  return read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info);
}

}  // namespace ramferry::cli
