// SPDX-License-Identifier: MIT
// The reference VM's disk: an image file, a guest that writes to it at a set rate, and marks of what was
// written.
//
// read(), write() and the marks: any thread. A mark is set after its write and taken before the chunk is
// read, so that no write is lost ("Clear before read" in docs/design-notes.md).
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace ramferry::vm {

/// The unit of marks and of what is sent.
inline constexpr std::uint64_t kDiskChunk = 1 << 20;

struct DiskSpec {
  std::string image;                   ///< a raw image; empty: no disk
  std::string base;                    ///< what source and destination both have; empty: none
  std::uint64_t bytes_per_second = 0;  ///< that the guest writes
  std::uint64_t seed = 1;
};

class Disk {
 public:
  /// The guest does not write yet. The image must exist; its size is the disk's.
  static Result<std::unique_ptr<Disk>> open(const DiskSpec& spec);
  ~Disk();

  void resume();
  /// When it returns nobody writes.
  void pause();

  std::uint64_t bytes() const noexcept { return bytes_; }
  std::uint64_t chunks() const noexcept { return (bytes_ + kDiskChunk - 1) / kDiskChunk; }
  /// How long chunk number `chunk` is; the last may be shorter.
  std::uint64_t chunk_bytes(std::uint64_t chunk) const noexcept;
  Result<> read(std::uint64_t offset, Bytes into) const;
  Result<> write(std::uint64_t offset, ConstBytes bytes);

  void mark_all() noexcept;
  /// Whether the chunk was marked; it is not any more.
  bool take_mark(std::uint64_t chunk) noexcept;
  std::uint64_t marked() const noexcept;

  bool has_base() const noexcept { return static_cast<bool>(base_); }
  /// Of the base: what tells one from another.
  Result<std::uint64_t> base_hash() const;
  Result<> read_base(std::uint64_t offset, Bytes into) const;

  /// Opens the image anew: what this host knew of it may be old. Fails if it is gone or has another size.
  Result<> reopen();

 private:
  Disk(DiskSpec spec, UniqueFd image, UniqueFd base, std::uint64_t bytes);
  void run();
  void write_somewhere(std::uint64_t turn);

  const DiskSpec spec_;
  UniqueFd image_, base_;
  const std::uint64_t bytes_;
  std::vector<std::atomic<bool>> marks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool paused_ = true, writing_ = false, stopping_ = false;
  std::thread guest_;
};

}  // namespace ramferry::vm
