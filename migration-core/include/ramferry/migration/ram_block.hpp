// SPDX-License-Identifier: MIT
// Guest memory as migration sees it: named blocks of pages, and runs of pages inside them.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::migration {

/// What is behind a block's mapping. Decides which tracker works and what may be registered.
struct Backing {
  enum class Kind : std::uint8_t { anonymous, shared_fd };
  Kind kind = Kind::anonymous;
  int fd = -1;                      ///< shared_fd: a memfd or a file; borrowed
  std::uint64_t offset = 0;         ///< shared_fd: where the block starts in it
  std::uint64_t page_bytes = 4096;  ///< of the host mapping; larger with hugetlb
};

/// A named stretch of guest memory that stays mapped and keeps its size from setup to the end of a migration.
struct RamBlock {
  std::string name;  ///< unique, 1-255 bytes; on the wire
  Bytes host;        ///< aligned to backing.page_bytes; a multiple of both page sizes long
  Backing backing{};
  std::uint64_t page_bytes = 4096;  ///< target page: the unit of tracking

  std::uint64_t pages() const noexcept { return host.size() / page_bytes; }
};

/// `count` adjacent pages from page `first` of block number `block`.
struct PageRun {
  std::uint32_t block = 0;
  std::uint64_t first = 0, count = 0;
  bool operator==(const PageRun&) const = default;
};

/// The frozen list of a VM's blocks. A block's number is its place in the list, and in wire formats.
class RamLayout {
 public:
  /// errc::invalid_argument on an empty, too long or repeated name, a misaligned block, blocks that overlap,
  /// a page size that is no power of two.
  static Result<RamLayout> make(std::vector<RamBlock> blocks);

  std::span<const RamBlock> blocks() const noexcept { return blocks_; }
  const RamBlock& operator[](std::uint32_t block) const noexcept { return blocks_[block]; }
  std::optional<std::uint32_t> find(std::string_view name) const noexcept;
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::uint64_t pages() const noexcept { return pages_; }
  /// The memory of a run.
  Bytes memory(const PageRun& run) const noexcept;
  std::uint64_t bytes(const PageRun& run) const noexcept { return run.count * blocks_[run.block].page_bytes; }

 private:
  std::vector<RamBlock> blocks_;
  std::uint64_t bytes_ = 0, pages_ = 0;
};

}  // namespace ramferry::migration
