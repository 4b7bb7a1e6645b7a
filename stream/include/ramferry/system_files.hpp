// SPDX-License-Identifier: MIT
// What the kernel tells in /proc, /sys and the like; below another folder for tests.
//
// Any thread. Nothing here fails: what cannot be read is absent, and callers say what that means.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ramferry {

/// A limit or number of bytes of which the kernel says "max" or "unlimited".
inline constexpr std::uint64_t kUnlimited = ~0ULL;

class SystemFiles {
 public:
  explicit SystemFiles(std::filesystem::path root = "/") : root_(std::move(root)) {}

  /// All of a file, up to 4 MiB. `path` is absolute: "/proc/meminfo".
  std::optional<std::string> text(std::string_view path) const;
  /// The first line, without surrounding blanks.
  std::optional<std::string> line(std::string_view path) const;
  /// The first word as a number; kUnlimited for "max" and "unlimited".
  std::optional<std::uint64_t> number(std::string_view path) const;
  /// The rest of the first line that begins with `key`, after blanks and a colon. Where a file repeats a key,
  /// the first counts.
  std::optional<std::string> field(std::string_view path, std::string_view key) const;
  /// The names in a folder, sorted as people count ("rxe2" before "rxe10"); empty if there is none.
  std::vector<std::string> list(std::string_view folder) const;
  bool exists(std::string_view path) const;
  /// Whether this process may open it for reading and writing.
  bool may_open(std::string_view path) const;

 private:
  std::filesystem::path at(std::string_view path) const {
    return root_ / path.substr(std::min(path.find_first_not_of('/'), path.size()));
  }

  std::filesystem::path root_;
};

/// The blank-separated words of a line.
std::vector<std::string> words_of(std::string_view line);

/// What a process may lock into memory.
struct LockLimit {
  std::uint64_t soft = kUnlimited, hard = kUnlimited;  ///< bytes, of RLIMIT_MEMLOCK
  bool exempt = false;                                 ///< it has CAP_IPC_LOCK: the limits do not apply
};
/// Of this process.
LockLimit lock_limit(const SystemFiles& files);

/// The least memory limit of the control groups that this process is in; nothing if there is none.
struct GroupLimit {
  std::uint64_t bytes = kUnlimited;
  std::string file;  ///< where it is set
};
std::optional<GroupLimit> group_memory_limit(const SystemFiles& files);

}  // namespace ramferry
