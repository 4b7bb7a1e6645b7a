// SPDX-License-Identifier: MIT
// Takes a live VM from a link and keeps it in a file: a migration destination that is not a VM.
//
// The file is complete or not there. Whoever is told that the migration succeeded is told after the file,
// under its final name, is on the disk; see "One owner of the guest" in docs/design-notes.md for who can be
// told.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/channel.hpp>
#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/log.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace ramferry::checkpoint {

enum class Format : std::uint8_t {
  checkpoint,  ///< docs/checkpoint-format.md
  stream,      ///< QEMU's plain stream, as it came
};

struct ReceiveOptions {
  std::filesystem::path path;  ///< an older file there is replaced
  bool in_folder = false;      ///< `path` is a folder; the file gets a name of its own, and replaces nothing
  Format format = Format::checkpoint;
  std::chrono::milliseconds hand_over_timeout{
      30'000};  ///< waiting for a ramferry source's hello, then for COMMIT
};

/// What was received, for people and programs.
struct ReceiveReport {
  std::filesystem::path path;
  std::string machine;
  Origin origin = Origin::qemu;
  std::uint64_t ram_bytes = 0;
  std::uint64_t stored_pages = 0;  ///< pages with content; the rest are zeros
  std::uint64_t overwritten = 0;   ///< times that a page came again
  std::uint64_t state_bytes = 0, file_bytes = 0, stream_bytes = 0;
  bool acknowledged = false;  ///< the source waited for our word
  std::chrono::nanoseconds took{};
  std::chrono::nanoseconds syncing{};  ///< of it, waiting for fsync()
};

class Receiver {
 public:
  /// All borrowed until run() has returned; the link is taken over.
  Receiver(Link link, ReceiveOptions options, Log& log);
  ~Receiver();

  /// Once; blocks. errc::outcome_unknown: a ramferry source vanished before it gave the guest away; what came
  /// is complete and kept beside the path, or in the folder, with the ending ".unconfirmed". What is complete
  /// and cannot get its name is kept as well; that error tells where.
  Result<ReceiveReport> run();

  // Any thread:
  void cancel() noexcept;
  std::uint64_t stream_bytes() const noexcept;  ///< so far, pages placed included
  std::uint64_t ram_bytes() const noexcept;     ///< 0 until it is known
  std::uint64_t seen_bytes() const noexcept;    ///< of RAM, each page once; QEMU's dialect only

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

/// What receives into this folder left that were killed: parts of machines are removed, whole ones get a name
/// with the ending ".unconfirmed". The log tells of each. Receives that are under way are left alone.
void tidy_folder(const std::filesystem::path& folder, Log& log);

}  // namespace ramferry::checkpoint
