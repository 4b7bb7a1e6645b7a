// SPDX-License-Identifier: MIT
#include "posix/cancel_event.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>

namespace ramferry::posix {
namespace {

using std::chrono::milliseconds;

/// For poll(2): rounded up, so that a deadline is never taken to have passed too early.
int timeout_of(Deadline deadline, milliseconds most) {
  if (deadline.is_never() && most == milliseconds::max()) return -1;
  const auto cap = std::chrono::hours(24);  // poll is called again then
  const auto left = std::chrono::ceil<milliseconds>(deadline.left(most < cap ? most : cap));
  return static_cast<int>(left.count());
}

}  // namespace

CancelEvent::CancelEvent() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void CancelEvent::set() noexcept {
  set_ = true;
  const std::uint64_t one = 1;
  if (event_ && ::write(event_.get(), &one, sizeof one) < 0) return;  // full: then it is readable already
}

Result<> CancelEvent::wait(int fd, short events, Deadline deadline, const std::string& doing) const {
  for (;;) {
    if (set_) return fail(errc::cancelled, doing);
    std::array<pollfd, 2> both = {pollfd{fd, events, 0}, pollfd{event_.get(), POLLIN, 0}};
    const auto most = event_ ? milliseconds::max() : milliseconds(20);
    const int count = ::poll(both.data(), event_ ? 2 : 1, timeout_of(deadline, most));
    if (count < 0 && errno != EINTR) return fail_errno(errno, doing);
    if (set_) return fail(errc::cancelled, doing);
    if (count > 0 && (both[0].revents & POLLNVAL) != 0) return fail_errno(EBADF, doing);
    if (count > 0 && both[0].revents != 0) return {};
    if (deadline.passed()) return fail(errc::timed_out, doing);
  }
}

}  // namespace ramferry::posix
