// SPDX-License-Identifier: MIT
#include "lane_writer.hpp"

#include "socket.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace ramferry::tcp {

void OutFrame::append(ConstBytes payload) {
  body_bytes += payload.size();
  if (!body.empty() &&
      static_cast<const std::byte*>(body.back().iov_base) + body.back().iov_len == payload.data())
    body.back().iov_len += payload.size();
  else
    body.push_back(to_iovec(payload));
}

void OutFrame::append_copy(ConstBytes payload) {
  kept.emplace_back(payload.begin(), payload.end());
  append(kept.back());
}

void OutFrame::clear() noexcept {
  head.clear();
  body.clear();
  kept.clear();
  body_bytes = 0;
}

Result<> LaneWriter::write(const OutFrame& frame) {
  {
    const std::lock_guard lock(mutex_);
    gather(frame);
    RAMFERRY_TRY(write_pieces(pieces_));
    status_left_ = 0;
  }
  // Whoever wanted to send a status while this frame held the lane left it to us.
  push_status();
  return {};
}

void LaneWriter::gather(const OutFrame& frame) {
  pieces_.clear();
  if (status_left_ == 0 && status_due_.exchange(false)) {
    status_ = encode_status(progress_.in_place.load(), progress_.consumed.load());
    status_left_ = status_.size();
  }
  if (status_left_ != 0) pieces_.push_back(to_iovec(ConstBytes(status_).last(status_left_)));
  pieces_.push_back(to_iovec(frame.head));
  pieces_.insert(pieces_.end(), frame.body.begin(), frame.body.end());
}

Result<> LaneWriter::write_pieces(std::span<iovec> pieces) {
  busy_.store(true, std::memory_order_relaxed);
  while (!pieces.empty()) {
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    const ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
    Counters::add(counters_.system_calls, 1);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return socket_failure(errno, "sending");
    Counters::add(counters_.wire_bytes_sent, static_cast<std::uint64_t>(sent));
    pieces = advance(pieces, static_cast<std::size_t>(sent));
  }
  return {};
}

void LaneWriter::write_at_last(ConstBytes frame, Deadline deadline) noexcept {
  // try_lock because the holder may be blocked for good by a peer that does not read.
  std::unique_lock lock(mutex_, std::try_to_lock);
  while (!lock.owns_lock() && !deadline.passed()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    lock.try_lock();
  }
  if (!lock.owns_lock() || status_left_ != 0) return;
  const ssize_t sent = ::send(fd_, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) Counters::add(counters_.wire_bytes_sent, static_cast<std::uint64_t>(sent));
}

bool LaneWriter::send_status() {
  status_due_.store(true);
  return push_status();
}

bool LaneWriter::push_status() {
  while (status_due_.load()) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return true;  // the holder looks at status_due_ once it has let go
    if (status_left_ == 0) {
      if (!status_due_.exchange(false)) continue;
      status_ = encode_status(progress_.in_place.load(), progress_.consumed.load());
      status_left_ = status_.size();
    }
    const ConstBytes rest = ConstBytes(status_).last(status_left_);
    const ssize_t sent = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    Counters::add(counters_.system_calls, 1);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return true;  // broken: the receiving side says why
    if (sent > 0) {
      Counters::add(counters_.wire_bytes_sent, static_cast<std::uint64_t>(sent));
      status_left_ -= static_cast<std::size_t>(sent);
    }
    if (status_left_ != 0) {
      // Nothing of it out yet: make it anew next time, so that it says the newest. Else its rest is due.
      if (status_left_ == status_.size()) status_left_ = 0;
      status_due_.store(true);
      return false;
    }
  }
  return true;
}

}  // namespace ramferry::tcp
