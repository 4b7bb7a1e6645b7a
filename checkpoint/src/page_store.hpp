// SPDX-License-Identifier: MIT
// The pages of a checkpoint while it is being written: every page once, the newest, in a slot of the file.
//
// A slot is 4 KiB of the file; slot 1 lies behind the file's head. A page gets a slot when it first has
// content, keeps it when it is written again, and gives it back when it becomes zero.
//
// write() and zero() may be called by several threads at once for ranges that do not overlap; everything else
// by one thread while nobody writes. The descriptor is borrowed.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/error.hpp>

#include <bitset>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace ramferry::checkpoint {

/// Bytes of any size and alignment inside a block.
struct Piece {
  std::uint32_t block = 0;
  std::uint64_t offset = 0;
  ConstBytes bytes;
};

class PageStore {
 public:
  PageStore(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}

  /// Once. errc::protocol_mismatch for a list that no guest can have.
  Result<> set_blocks(std::vector<BlockInfo> blocks);
  const std::vector<BlockInfo>& blocks() const noexcept { return blocks_; }

  /// The pieces must lie inside their blocks. errc::no_space when the disk is full: what their pages are then
  /// is not known until all of them are written again, or confirmed.
  Result<> write(std::span<const Piece> pieces);
  /// Whole pages that may have been written before, ahead of their time: what is the same still is left
  /// alone, and none counts as overwritten. Only while nobody else writes to them.
  Result<> confirm(std::span<const Piece> pieces);
  Result<> zero(std::uint32_t block, std::uint64_t offset, std::uint64_t length);
  /// The newest content of the page at `offset`.
  Result<> read(std::uint32_t block, std::uint64_t offset, Bytes page) const;

  /// Takes room on the disk for the index and `bytes` behind all slots, so that writing them cannot fail for
  /// lack of it. Any thread.
  Result<> reserve(std::uint64_t bytes);
  /// Fills the slots that were given back, and computes the checksums that are missing.
  Result<> settle();
  /// After settle(): the runs and checksums of each block, as docs/checkpoint-format.md has them.
  void append_index(WireWriter& out) const;

  std::uint64_t pages() const noexcept;
  std::uint64_t overwritten() const noexcept { return overwritten_; }
  /// Where the last slot ends.
  std::uint64_t end() const noexcept { return std::uint64_t{next_} * kPageBytes; }

 private:
  static constexpr std::uint64_t kChunkPages = 512;
  /// What is known about 2 MiB of a block. There is none where nothing but zeros came.
  struct Chunk {
    std::uint32_t slot[kChunkPages] = {};  // 0: the page is zero
    std::uint64_t sum[kChunkPages] = {};
    std::bitset<kChunkPages> stale;  ///< the sum is not that of the content
  };
  /// Bytes that go to one place in the file.
  struct Target {
    std::uint64_t at;
    ConstBytes bytes;
  };
  using Chunks = std::vector<std::unique_ptr<Chunk>>;

  enum class Before : std::uint8_t { obsolete, perhaps_the_same };
  Result<> write_all(std::span<const Piece> pieces, Before before);
  Result<> place(const Piece& piece, Before before, std::vector<Target>& targets);
  void distrust(std::span<const Piece> pieces);
  void write_back(std::uint64_t bytes);
  Result<> write_out(std::span<const Target> targets);
  Result<std::uint32_t> take_slot(bool whole);
  void drop_page(Chunk& chunk, std::uint64_t page);
  Result<> allocate(std::uint64_t end);
  Result<> compact();
  Result<> sum_stale();
  template <class Visit>
  Result<> each_page(Visit visit);

  int fd_;
  std::string name_;
  std::vector<BlockInfo> blocks_;
  std::vector<Chunks> chunks_;  ///< by block
  std::mutex mutex_;            ///< all below, and the chunks' slots and stale bits
  std::uint32_t next_ = 1;      ///< the first slot never used
  std::vector<std::uint32_t> free_;
  std::uint64_t allocated_ = 0;  ///< room on the disk up to here
  std::uint64_t overwritten_ = 0;
  std::uint64_t not_begun_ = 0,
                begun_ = 0;  ///< bytes not told to the disk yet; slots that were, by their end
};

}  // namespace ramferry::checkpoint
