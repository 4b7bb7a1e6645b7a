// SPDX-License-Identifier: MIT
// A byte stream over one descriptor of any kind: socket, pipe, terminal, device, regular file.
#pragma once

#include "posix/cancel_event.hpp"

#include <ramferry/byte_stream.hpp>
#include <ramferry/unique_fd.hpp>

#include <atomic>
#include <mutex>
#include <optional>
#include <string>

namespace ramferry::posix {

/// What a descriptor is used for that is open for both reading and writing.
enum class Use : std::uint8_t {
  both,
  reading  ///< sent is only into sockets and character devices: in a file or FIFO it would become content
};

class FdStream final : public ByteStream {
 public:
  /// `name` is for messages: "fd:7". What is neither a socket nor a regular file is made non-blocking while
  /// the stream lives, which other holders of the same open file see.
  FdStream(UniqueFd fd, std::string name, Use use = Use::both);
  ~FdStream() override;

  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  /// Sockets are half-closed, regular files synced, what can only be written to is closed.
  Result<> finish(Deadline deadline) override;
  void cancel() noexcept override { cancel_.set(); }
  StreamStats stats() const noexcept override;
  Facts facts() const override { return {{"stream", name_}}; }

  const CancelEvent& cancel_event() const noexcept { return cancel_; }
  int fd() const noexcept { return fd_.get(); }

 private:
  enum class Kind : std::uint8_t { socket, regular_file, other };

  Result<> write_all(ConstBytes bytes, const std::string& doing);
  long write_once(ConstBytes bytes) noexcept;
  long read_once(Bytes into) noexcept;
  Result<> end_of_writing(const std::string& doing);
  Result<> usable(const std::string& doing) const;
  Failure remember(Error error);
  void restore_flags() noexcept;

  const std::string name_;
  UniqueFd fd_;
  Kind kind_ = Kind::other;
  bool is_fifo_unread_ = false;  ///< a FIFO's first read(2) must not be before a writer came
  bool can_read_ = true, can_write_ = true;
  int flags_before_ = -1;  ///< to be restored; -1 if they were not changed
  CancelEvent cancel_;

  mutable std::mutex mutex_;
  std::optional<Error> failure_;
  std::atomic<bool> finished_{false};
  std::atomic<std::uint64_t> bytes_sent_{0}, bytes_received_{0}, system_calls_{0};
};

}  // namespace ramferry::posix
