// SPDX-License-Identifier: MIT
// Byte streams over a pair of connected sockets.
#pragma once

#include <ramferry/transport.hpp>
#include <ramferry/unique_fd.hpp>

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <utility>

namespace ramferry::test {

class SocketStream final : public ByteStream {
 public:
  explicit SocketStream(UniqueFd fd) : fd_(std::move(fd)) {}

  Result<> send(ConstBytes bytes) override {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (cancelled_) return fail(errc::cancelled, "sending");
      if (sent < 0) return fail_errno(errno, "sending");
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    return {};
  }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    pollfd waiting{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline.left(std::chrono::hours(1)));
    if (poll(&waiting, 1, static_cast<int>(left.count())) == 0) return fail(errc::timed_out, "receiving");
    const ssize_t got = recv(fd_.get(), into.data(), into.size(), 0);
    if (cancelled_) return fail(errc::cancelled, "receiving");
    if (got < 0) return fail_errno(errno, "receiving");
    return static_cast<std::size_t>(got);
  }
  Result<> finish(Deadline /*deadline*/) override {
    shutdown(fd_.get(), SHUT_WR);
    return {};
  }
  void cancel() noexcept override {
    cancelled_ = true;
    shutdown(fd_.get(), SHUT_RDWR);
  }
  StreamStats stats() const noexcept override { return {}; }

 private:
  UniqueFd fd_;
  std::atomic<bool> cancelled_ = false;
};

inline std::pair<std::unique_ptr<ByteStream>, std::unique_ptr<ByteStream>> make_socket_pair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  return {std::make_unique<SocketStream>(UniqueFd(fds[0])), std::make_unique<SocketStream>(UniqueFd(fds[1]))};
}

}  // namespace ramferry::test
