// SPDX-License-Identifier: MIT
// Puts a kept VM back: a migration source that is not a VM.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/channel.hpp>
#include <ramferry/checkpoint/checkpoint_file.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace ramferry::checkpoint {

struct SendOptions {
  /// A QEMU on a connection that carries bytes both ways is asked to say that it has the machine. Not for
  /// pipes.
  bool return_path = false;
  std::chrono::milliseconds answer_timeout{
      60'000};  ///< waiting for the destination to have loaded the machine
};

struct SendReport {
  std::string machine;
  std::uint64_t ram_bytes = 0, sent_pages = 0, zero_pages = 0;  ///< 0 pages where a plain stream was sent
  std::uint64_t stream_bytes = 0;
  bool acknowledged = false;  ///< the destination said that it has the machine
  std::chrono::nanoseconds took{};
};

/// A file is never changed by sending it; sending may be repeated.
class Sender {
 public:
  /// Whatever `path` is: a checkpoint, or a plain QEMU stream. The link is taken over. To a Channel the
  /// native dialect is spoken, to a ByteStream QEMU's; a plain stream goes to a ByteStream only.
  Sender(Link link, std::filesystem::path path, SendOptions options);
  ~Sender();

  /// Once; blocks.
  Result<SendReport> run();

  // Any thread:
  void cancel() noexcept;
  std::uint64_t ram_bytes() const noexcept;   ///< 0 until it is known; the file's size for a plain stream
  std::uint64_t done_bytes() const noexcept;  ///< of ram_bytes()

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace ramferry::checkpoint
