// SPDX-License-Identifier: MIT
#include "posix/fd_stream.hpp"

#include "posix/write_signals.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace ramferry::posix {
namespace {

/// A write to a regular file cannot be ended by cancel(): so none is much longer than this takes.
constexpr std::size_t kMostBytesPerFileWrite = 16U << 20;

bool would_block(int error_number) noexcept {
  return error_number == EAGAIN || error_number == EWOULDBLOCK;
}

}  // namespace

FdStream::FdStream(UniqueFd fd, std::string name, Use use) : name_(std::move(name)), fd_(std::move(fd)) {
  struct stat what {};
  bool has_other_end = true;
  if (::fstat(fd_.get(), &what) == 0) {
    has_other_end = S_ISSOCK(what.st_mode) || S_ISCHR(what.st_mode);
    if (S_ISSOCK(what.st_mode)) kind_ = Kind::socket;
    if (S_ISREG(what.st_mode)) kind_ = Kind::regular_file;
    is_fifo_unread_ = S_ISFIFO(what.st_mode);
  }
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  can_read_ = flags < 0 || (flags & O_ACCMODE) != O_WRONLY;
  can_write_ = (flags < 0 || (flags & O_ACCMODE) != O_RDONLY) && (use == Use::both || has_other_end);
  if (kind_ == Kind::other && flags >= 0 && (flags & O_NONBLOCK) == 0 &&
      ::fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK) == 0)
    flags_before_ = flags;
}

FdStream::~FdStream() {
  restore_flags();
}

void FdStream::restore_flags() noexcept {
  if (flags_before_ >= 0 && fd_) ::fcntl(fd_.get(), F_SETFL, flags_before_);
  flags_before_ = -1;
}

Failure FdStream::remember(Error error) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = error;
  return Failure(std::move(error));
}

Result<> FdStream::usable(const std::string& doing) const {
  if (cancel_.is_set()) return fail(errc::cancelled, doing);
  const std::lock_guard lock(mutex_);
  if (failure_) return Failure(*failure_);
  return {};
}

Result<> FdStream::send(ConstBytes bytes) {
  const std::string doing = "writing to " + name_;
  RAMFERRY_TRY(usable(doing));
  if (!can_write_) return fail(errc::unsupported, doing + ", which is read from");
  if (finished_) return fail(errc::wrong_state, doing + ": finish was called before");
  Result<> outcome = write_all(bytes, doing);
  if (!outcome) return remember(std::move(outcome).error());
  return outcome;
}

Result<> FdStream::write_all(ConstBytes bytes, const std::string& doing) {
  const WriteSignalsHeldBack no_signals;
  while (!bytes.empty()) {
    if (cancel_.is_set()) return fail(errc::cancelled, doing);
    const long count = write_once(bytes);
    if (count >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      bytes_sent_ += static_cast<std::uint64_t>(count);
    } else if (would_block(errno)) {
      RAMFERRY_TRY(cancel_.wait(fd_.get(), POLLOUT, Deadline::never(), doing));
    } else if (errno != EINTR) {
      return fail_errno(errno, doing);
    }
  }
  return {};
}

long FdStream::write_once(ConstBytes bytes) noexcept {
  ++system_calls_;
  if (kind_ == Kind::socket)
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (kind_ == Kind::regular_file) bytes = bytes.first(std::min(bytes.size(), kMostBytesPerFileWrite));
  return ::write(fd_.get(), bytes.data(), bytes.size());
}

long FdStream::read_once(Bytes into) noexcept {
  ++system_calls_;
  if (kind_ == Kind::socket) return ::recv(fd_.get(), into.data(), into.size(), MSG_DONTWAIT);
  return ::read(fd_.get(), into.data(), into.size());
}

Result<std::size_t> FdStream::receive(Bytes into, Deadline deadline) {
  const std::string doing = "reading from " + name_;
  if (std::exchange(is_fifo_unread_, false)) {
    const Result<> outcome = cancel_.wait(fd_.get(), POLLIN, deadline, doing);
    is_fifo_unread_ = !outcome;
    RAMFERRY_TRY(outcome);
  }
  for (;;) {
    if (cancel_.is_set()) return fail(errc::cancelled, doing);
    const long count = read_once(into);
    if (count >= 0) {
      bytes_received_ += static_cast<std::uint64_t>(count);
      return static_cast<std::size_t>(count);
    }
    if (would_block(errno)) {
      RAMFERRY_TRY(cancel_.wait(fd_.get(), POLLIN, deadline, doing));
    } else if (errno != EINTR) {
      return remember(Error{std::error_code(errno, std::system_category()), doing, {}});
    }
  }
}

Result<> FdStream::finish(Deadline /*deadline*/) {
  const std::string doing = "finishing " + name_;
  RAMFERRY_TRY(usable(doing));
  if (finished_.exchange(true)) return {};
  Result<> outcome = end_of_writing(doing);
  if (!outcome) return remember(std::move(outcome).error());
  return outcome;
}

Result<> FdStream::end_of_writing(const std::string& doing) {
  if (kind_ == Kind::socket && ::shutdown(fd_.get(), SHUT_WR) != 0) return fail_errno(errno, doing);
  if (kind_ == Kind::regular_file && can_write_ && ::fsync(fd_.get()) != 0) return fail_errno(errno, doing);
  if (kind_ == Kind::other && !can_read_) {
    restore_flags();
    fd_.reset();
  }
  return {};
}

StreamStats FdStream::stats() const noexcept {
  StreamStats stats;
  stats.message_bytes_sent = stats.wire_bytes_sent = bytes_sent_;
  stats.message_bytes_received = stats.wire_bytes_received = bytes_received_;
  stats.system_calls = system_calls_;
  return stats;
}

}  // namespace ramferry::posix
