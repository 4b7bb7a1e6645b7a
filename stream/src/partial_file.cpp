// SPDX-License-Identifier: MIT
#include <ramferry/partial_file.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace ramferry {
namespace {

/// A writer that is done takes the name away between our opening the file and our locking it.
constexpr int kMostAttempts = 100;
constexpr std::time_t kFresh = 60;  // seconds

bool has_name(int fd, const std::string& path) {
  struct stat open_file {
  }, named{};
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

}  // namespace

Result<UniqueFd> open_partial(const std::string& partial) {
  const std::string doing = "creating " + partial;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    UniqueFd fd(::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
    if (!fd) return fail_errno(errno, doing, errno == ENOENT ? "create the folder first" : "");
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return fail_errno(errno, doing);
      break;
    }
    // Without the name it is somebody's complete file by now.
    if (!has_name(fd.get(), partial)) continue;
    if (::ftruncate(fd.get(), 0) != 0) return fail_errno(errno, doing);
    return fd;
  }
  return fail(errc::in_use, doing + ": another program is writing it", "save under another name");
}

UniqueFd lock_left_over(const std::string& partial) {
  UniqueFd fd(::open(partial.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  // It may be between its writer's opening and locking it, who is not to find it locked.
  if (status.st_size == 0 && std::time(nullptr) - status.st_mtime < kFresh) return {};
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || !has_name(fd.get(), partial)) return {};
  return fd;
}

}  // namespace ramferry
