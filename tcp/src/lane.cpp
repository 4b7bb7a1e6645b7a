// SPDX-License-Identifier: MIT
#include "lane.hpp"

#include "socket.hpp"

#include <sys/uio.h>

#include <cerrno>

namespace ramferry::tcp {

Result<std::size_t> SocketSource::read(std::span<iovec> pieces) {
  for (;;) {
    waiting_.store(true, std::memory_order_relaxed);
    const ssize_t got = ::readv(fd_, pieces.data(), static_cast<int>(pieces.size()));
    waiting_.store(false, std::memory_order_relaxed);
    Counters::add(counters_.system_calls, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      failed_ = true;
      return socket_failure(errno, "receiving");
    }
    const auto bytes = static_cast<std::uint64_t>(got);
    received_.store(received_.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
    Counters::add(counters_.wire_bytes_received, bytes);
    return bytes;
  }
}

}  // namespace ramferry::tcp
