// SPDX-License-Identifier: MIT
// What the system calls of this program do on top: it has its own, in durability_test.cpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace ramferry::test {

/// Files may grow up to here: fallocate() says so, or pwritev() does when it gets there.
inline std::atomic<std::int64_t> room_to_reserve = INT64_MAX, room_to_write = INT64_MAX;
/// Calls of pwritev() that there was no room for.
inline std::atomic<int> writes_refused = 0;

/// What happens just before the next flock(), once: what others did meanwhile.
inline std::function<void()> before_lock;

/// What a file system may lack: renames that replace nothing, links, folders that can be synced.
inline std::atomic<bool> no_exclusive_rename = false, no_hard_links = false, no_folder_sync = false;

/// It does, until the end of its scope.
class Lacking {
 public:
  explicit Lacking(std::atomic<bool>& what) : what_(what) { what_ = true; }
  Lacking(const Lacking&) = delete;
  Lacking& operator=(const Lacking&) = delete;
  ~Lacking() { what_ = false; }

 private:
  std::atomic<bool>& what_;
};

/// A disk that has no more than this room, until the end of its scope.
class FullDisk {
 public:
  FullDisk(std::atomic<std::int64_t>& room, std::uint64_t bytes) : room_(room) {
    room_ = static_cast<std::int64_t>(bytes);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() { room_ = INT64_MAX; }

 private:
  std::atomic<std::int64_t>& room_;
};

}  // namespace ramferry::test
