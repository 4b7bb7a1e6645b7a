// SPDX-License-Identifier: MIT
// Writes one checkpoint, or any file that is to be complete or not there: PATH.partial, synced, then renamed.
//
// One thread, except pages(). A partial file is locked, so that two writers never share one.
#pragma once

#include "page_store.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/unique_fd.hpp>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

namespace ramferry::checkpoint {

/// What has its final name only when it is complete. Removed when it is destroyed before it was to get it;
/// from then on it stays, whatever becomes of that: its source may be gone.
class PartialFile {
 public:
  /// Creates PATH.partial; errc::in_use if another writer is at it.
  static Result<PartialFile> create(const std::filesystem::path& path);
  PartialFile(PartialFile&&) noexcept = default;
  PartialFile& operator=(PartialFile&&) = delete;
  ~PartialFile();

  int fd() const noexcept { return fd_.get(); }
  /// Where it is to be; where it is, once it was to get a name.
  const std::filesystem::path& path() const noexcept { return path_; }
  std::string name() const { return partial_.string(); }
  Result<> sync();
  /// Renames it to its name, over an older file, and makes the name durable. Synced before. If that fails, it
  /// is kept with the ending ".unpublished"; the error and path() tell where.
  Result<> publish();
  /// The same under the first of STEMENDING, STEM-2ENDING, … that is free.
  Result<> publish_free(const std::filesystem::path& stem, const std::string& ending);
  /// Waiting for the disk, so far.
  std::chrono::nanoseconds syncing() const noexcept { return syncing_; }

 private:
  PartialFile(std::filesystem::path path, std::filesystem::path partial, UniqueFd fd)
      : path_(std::move(path)), partial_(std::move(partial)), fd_(std::move(fd)) {}
  template <class Rename>
  Result<> rename_durably(Rename rename);
  Failure stranded(Error why);
  int timed_sync(int fd) noexcept;

  std::filesystem::path path_, partial_;
  UniqueFd fd_;
  std::chrono::nanoseconds syncing_{};
};

class CheckpointWriter {
 public:
  explicit CheckpointWriter(PartialFile file) : file_(std::move(file)), pages_(file_.fd(), file_.name()) {}

  PageStore& pages() noexcept { return pages_; }
  PartialFile& file() noexcept { return file_; }
  /// All that was stored is on the disk, and there is room for the rest: `state_bytes` of device state.
  Result<> make_durable(std::uint64_t state_bytes);
  /// Writes everything else, durably; file() is complete then. The blocks are those of pages().
  Result<> seal(CheckpointHead head);

 private:
  PartialFile file_;
  PageStore pages_;
};

}  // namespace ramferry::checkpoint
