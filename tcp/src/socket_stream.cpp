// SPDX-License-Identifier: MIT
#include "socket_stream.hpp"

#include "socket.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ramferry::tcp {
namespace {

constexpr std::chrono::milliseconds kLook{
    500};  ///< how often a blocked call looks whether the host is still there
constexpr std::size_t kDescriptorsAtOnce = 16;

}  // namespace

SocketStream::SocketStream(UniqueFd socket, std::chrono::milliseconds peer_timeout,
                           std::vector<std::byte> first)
    : socket_(std::move(socket)),
      is_unix_(is_unix_socket(socket_.get())),
      peer_(peer_address(socket_.get())),
      peer_timeout_(peer_timeout),
      first_(std::move(first)) {
  const timeval look{.tv_sec = 0, .tv_usec = std::chrono::microseconds(kLook).count()};
  // Receiving blocks only those who splice(2), whose SPLICE_F_NONBLOCK TCP does not heed.
  for (const int each : {SO_SNDTIMEO, SO_RCVTIMEO})
    ::setsockopt(socket_.get(), SOL_SOCKET, each, &look, sizeof look);
  Counters::add(counters_.wire_bytes_received, first_.size());
}

SocketStream::~SocketStream() {
  if (!finished_ || cancelled_ || send_failed_) return;
  // Closing a socket with unread input resets the connection and discards what is still on its way.
  const Deadline deadline = Deadline::after(peer_timeout_);
  std::array<std::byte, 16384> unread;
  while (unacknowledged_bytes(socket_.get()) > 0 && !deadline.passed()) {
    const ssize_t got = ::recv(socket_.get(), unread.data(), unread.size(), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return;
    if (got < 0)
      (void)wait_for(socket_.get(), POLLIN, Deadline::after(std::chrono::milliseconds(5)), "closing");
  }
}

Failure SocketStream::failed(int error_number, const char* doing) const {
  if (cancelled_) return fail(errc::cancelled, doing + (" " + peer_));
  return socket_failure(error_number, doing + (" " + peer_));
}

Result<> SocketStream::check_reachable() const {
  if (cancelled_) return failed(ECANCELED, "using the connection to");
  if (!peer_unreachable(socket_.get(), peer_timeout_)) return {};
  return fail(errc::peer_gone,
              "nothing heard from " + peer_ + " for " + std::to_string(peer_timeout_.count() / 1000) + " s",
              "its host or the network is down; see the option peer-timeout");
}

Result<> SocketStream::send(ConstBytes bytes) {
  if (cancelled_) return failed(ECANCELED, "sending to");
  if (finished_) return fail(errc::wrong_state, "sending after finish");
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    const int error_number = errno;
    Counters::add(counters_.system_calls, 1);
    if (sent >= 0) {
      Counters::add(counters_.message_bytes_sent, static_cast<std::uint64_t>(sent));
      Counters::add(counters_.wire_bytes_sent, static_cast<std::uint64_t>(sent));
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
      continue;
    }
    if (error_number == EINTR) continue;
    send_failed_ = true;
    if (error_number != EAGAIN) return failed(error_number, "sending to");
    RAMFERRY_TRY(check_reachable());
    send_failed_ = false;
  }
  return {};
}

Result<std::size_t> SocketStream::receive(Bytes into, Deadline deadline) {
  if (into.empty()) return fail(errc::invalid_argument, "receiving into no memory");
  if (cancelled_) return failed(ECANCELED, "receiving from");
  if (first_taken_ < first_.size()) {
    const std::size_t bytes = std::min(into.size(), first_.size() - first_taken_);
    std::memcpy(into.data(), first_.data() + first_taken_, bytes);
    first_taken_ += bytes;
    Counters::add(counters_.message_bytes_received, bytes);
    return bytes;
  }
  for (;;) {
    // Bulk is there already when it is asked for: try first, wait second.
    Result<std::size_t> got = receive_now(into);
    if (got || got.error().code != std::errc::resource_unavailable_try_again) return got;
    RAMFERRY_TRY(wait_readable(deadline));
  }
}

Result<> SocketStream::wait_readable(Deadline deadline) {
  for (;;) {
    const Deadline look = Deadline::at(std::min(deadline.when(), Deadline::after(kLook).when()));
    Result<> ready = wait_for(socket_.get(), POLLIN, look, "receiving from " + peer_);
    Counters::add(counters_.system_calls, 1);
    if (ready || !ready.error().is(errc::timed_out) || deadline.passed()) return ready;
    RAMFERRY_TRY(check_reachable());
  }
}

Result<std::size_t> SocketStream::receive_now(Bytes into) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kDescriptorsAtOnce * sizeof(int))> control;
  iovec piece = to_iovec(into);
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (is_unix_) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
  }
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  const int error_number = errno;
  Counters::add(counters_.system_calls, 1);
  if (got < 0 && error_number == EINTR) return failed(EAGAIN, "receiving from");
  if (got < 0) return failed(error_number, "receiving from");
  if (is_unix_) keep_descriptors(message);
  if (got == 0 && cancelled_) return failed(ECANCELED, "receiving from");
  const auto bytes = static_cast<std::size_t>(got);
  Counters::add(counters_.message_bytes_received, bytes);
  Counters::add(counters_.wire_bytes_received, bytes);
  return bytes;
}

void SocketStream::keep_descriptors(const msghdr& message) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr;
       each = CMSG_NXTHDR(const_cast<msghdr*>(&message), each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(each) + i * sizeof fd, sizeof fd);
      UniqueFd owned(fd);
      if (descriptors_.size() < kMostDescriptors) descriptors_.push_back(std::move(owned));
    }
  }
}

std::vector<UniqueFd> SocketStream::take_descriptors() {
  std::vector<UniqueFd> taken;
  for (UniqueFd& each : descriptors_) taken.push_back(std::move(each));
  descriptors_.clear();
  return taken;
}

Result<> SocketStream::finish(Deadline /*deadline*/) {
  if (cancelled_) return failed(ECANCELED, "finishing to");
  if (std::exchange(finished_, true)) return {};
  if (::shutdown(socket_.get(), SHUT_WR) != 0) {
    send_failed_ = true;
    return failed(errno, "finishing to");
  }
  return {};
}

void SocketStream::cancel() noexcept {
  cancelled_ = true;
  ::shutdown(socket_.get(), SHUT_RDWR);
}

Facts SocketStream::facts() const {
  return {{"local", local_address(socket_.get())},
          {"remote", peer_},
          {"send-buffer", std::to_string(buffer_size(socket_.get(), SO_SNDBUF))},
          {"receive-buffer", std::to_string(buffer_size(socket_.get(), SO_RCVBUF))}};
}

}  // namespace ramferry::tcp
