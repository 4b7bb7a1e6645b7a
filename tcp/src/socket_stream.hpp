// SPDX-License-Identifier: MIT
// A connected socket as a plain byte stream: the QEMU dialect, and QMP.
#pragma once

#include "counters.hpp"

#include <ramferry/byte_stream.hpp>
#include <ramferry/side_streams.hpp>
#include <ramferry/unique_fd.hpp>

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

namespace ramferry::tcp {

/// There are no heartbeats in this dialect: a vanished host is noticed by TCP's own means within about the
/// peer timeout, a peer that is alive and does not read may take as long as it likes.
class SocketStream final : public ByteStream, public SocketBacked {
 public:
  /// Descriptors kept for take_descriptors(); a peer that sends more has the rest closed.
  static constexpr std::size_t kMostDescriptors = 64;

  /// `socket` is in blocking mode. `first` was read from it already, and is received first.
  SocketStream(UniqueFd socket, std::chrono::milliseconds peer_timeout, std::vector<std::byte> first = {});
  SocketStream(const SocketStream&) = delete;
  SocketStream& operator=(const SocketStream&) = delete;
  /// After finish(), waits for the peer's system to have what was sent, within the peer timeout.
  ~SocketStream() override;

  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  Result<> finish(Deadline deadline) override;
  void cancel() noexcept override;
  StreamStats stats() const noexcept override { return counters_.snapshot(); }
  Facts facts() const override;
  std::vector<UniqueFd> take_descriptors() override;
  int socket() const noexcept override { return first_taken_ < first_.size() ? -1 : socket_.get(); }
  Result<> check_reachable() const override;

 private:
  Result<std::size_t> receive_now(Bytes into);
  Result<> wait_readable(Deadline deadline);
  void keep_descriptors(const msghdr& message);
  Failure failed(int error_number, const char* doing) const;

  UniqueFd socket_;
  const bool is_unix_;
  const std::string peer_;
  const std::chrono::milliseconds peer_timeout_;
  Counters counters_;
  std::atomic<bool> cancelled_ = false;
  bool finished_ = false, send_failed_ = false;
  std::vector<std::byte> first_;
  std::size_t first_taken_ = 0;
  std::deque<UniqueFd> descriptors_;
};

}  // namespace ramferry::tcp
