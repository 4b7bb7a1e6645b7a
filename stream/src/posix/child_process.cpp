// SPDX-License-Identifier: MIT
#include "posix/child_process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace ramferry::posix {
namespace {

constexpr auto kTimeToEnd = std::chrono::milliseconds(500);

/// What posix_spawn(3) is told, freed again.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  /// All other descriptors of ours close on exec.
  void connect(ChildProcess::Connects connects, int fd) {
    const bool input = connects == ChildProcess::Connects::standard_input;
    ::posix_spawn_file_actions_adddup2(&actions_, fd, input ? STDIN_FILENO : STDOUT_FILENO);
    if (input)
      ::posix_spawn_file_actions_adddup2(&actions_, STDERR_FILENO, STDOUT_FILENO);
    else
      ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  }

  /// A group of its own, no signal blocked, and none ignored that a command expects to end it.
  void isolate() {
    sigset_t none{}, defaults{};
    ::sigemptyset(&none);
    ::sigemptyset(&defaults);
    for (const int number : {SIGPIPE, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGXFSZ})
      ::sigaddset(&defaults, number);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &defaults);
    ::posix_spawnattr_setflags(&attributes_,
                               POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }

  /// An error number, 0 if it runs.
  int spawn_shell(const std::string& command, pid_t& id) {
    std::string shell = "sh", option = "-c", text = command;
    const std::array<char*, 4> words = {shell.data(), option.data(), text.data(), nullptr};
    return ::posix_spawn(&id, "/bin/sh", &actions_, &attributes_, words.data(), environ);
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace

Result<ChildProcess> ChildProcess::run(const std::string& command, Connects connects, UniqueFd ours) {
  SpawnPlan plan;
  plan.connect(connects, ours.get());
  plan.isolate();
  pid_t id = -1;
  const std::string doing = "starting the command '" + command + "'";
  if (const int problem = plan.spawn_shell(command, id); problem != 0) return fail_errno(problem, doing);
  ChildProcess child(command, id);
  child.handle_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, id, 0)));
  if (!child.handle_) return fail_errno(errno, doing);
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : command_(std::move(other.command_)),
      id_(std::exchange(other.id_, -1)),
      handle_(std::move(other.handle_)),
      status_(other.status_) {}

ChildProcess::~ChildProcess() {
  if (id_ < 0 || status_) return;
  ::kill(-id_, SIGTERM);
  const CancelEvent never;
  if (!handle_ || !never.wait(handle_.get(), POLLIN, Deadline::after(kTimeToEnd), "")) ::kill(-id_, SIGKILL);
  reap();
}

void ChildProcess::reap() noexcept {
  int status = 0;
  pid_t ended = -1;
  do ended = ::waitpid(id_, &status, 0);
  while (ended < 0 && errno == EINTR);
  // Where somebody else has taken the status (SIGCHLD ignored), nothing is known: that must not pass for
  // success.
  status_ = ended == id_ ? status : SIGKILL;
}

Result<> ChildProcess::wait(const CancelEvent& cancel, Deadline deadline) {
  if (!status_) {
    RAMFERRY_TRY(cancel.wait(handle_.get(), POLLIN, deadline,
                             "waiting for the end of the command '" + command_ + "'"));
    reap();
  }
  return verdict();
}

Result<> ChildProcess::verdict() const {
  const std::string who = "running the command '" + command_ + "'";
  if (WIFSIGNALED(*status_)) {
    const int number = WTERMSIG(*status_);
    return fail(errc::peer_gone,
                who + ": ended by signal " + std::to_string(number) + " (" + ::strsignal(number) + ")");
  }
  const int status = WEXITSTATUS(*status_);
  if (status == 0) return {};
  const bool not_there = status == 126 || status == 127;
  return fail(
      errc::peer_failed, who + ": it ended with exit status " + std::to_string(status),
      not_there ? "check that the command exists and may be run" : "its own messages are on standard error");
}

}  // namespace ramferry::posix
