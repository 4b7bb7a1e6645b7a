// SPDX-License-Identifier: MIT
#include "page_store.hpp"

#include "file_io.hpp"

#include <ramferry/zero_scan.hpp>

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <utility>

namespace ramferry::checkpoint {
namespace {

constexpr std::uint64_t kMostRam = 8ULL << 40;  // slots are numbered with 32 bits
constexpr std::size_t kMostBlocks = 16384;
constexpr std::uint64_t kAllocationStep = 64ULL << 20, kWriteBackStep = 32ULL << 20;
constexpr std::size_t kMostPieces = 512;  // of one pwritev
constexpr std::array<std::byte, kPageBytes> kZeros{};

/// The index: a run and its checksums take least per page when runs are long, most when each page is its own.
constexpr std::uint64_t kMostIndexPerPage = 12 + 8;

}  // namespace

Result<> PageStore::set_blocks(std::vector<BlockInfo> blocks) {
  const auto refuse = [](const std::string& what) {
    return fail(errc::protocol_mismatch, "reading the list of RAM blocks: " + what);
  };
  if (!blocks_.empty()) return refuse("it comes twice");
  if (blocks.empty() || blocks.size() > kMostBlocks) return refuse(std::to_string(blocks.size()) + " blocks");
  std::uint64_t total = 0;
  std::set<std::string_view> names;
  for (const BlockInfo& block : blocks) {
    if (block.name.empty() || !names.insert(block.name).second)
      return refuse("block '" + block.name + "' is nameless or comes twice");
    if (block.bytes % kPageBytes != 0 || block.bytes > kMostRam - total)
      return refuse("block '" + block.name + "' has " + std::to_string(block.bytes) + " bytes");
    total += block.bytes;
  }
  blocks_ = std::move(blocks);
  for (const BlockInfo& block : blocks_)
    chunks_.emplace_back((block.bytes / kPageBytes + kChunkPages - 1) / kChunkPages);
  return {};
}

Result<> PageStore::write(std::span<const Piece> pieces) {
  return write_all(pieces, Before::obsolete);
}

Result<> PageStore::confirm(std::span<const Piece> pieces) {
  return write_all(pieces, Before::perhaps_the_same);
}

Result<> PageStore::write_all(std::span<const Piece> pieces, Before before) {
  std::vector<Target> targets;
  targets.reserve(pieces.size());
  const auto store = [&]() -> Result<> {
    for (const Piece& piece : pieces) RAMFERRY_TRY(place(piece, before, targets));
    return write_out(targets);
  };
  if (Result<> stored = store(); !stored) {
    distrust(pieces);
    return stored;
  }
  write_back(targets.size() * kPageBytes);
  return {};
}

/// The books say what should have come into the slots: some of it did not.
void PageStore::distrust(std::span<const Piece> pieces) {
  const std::lock_guard lock(mutex_);
  for (const Piece& piece : pieces) {
    const std::uint64_t end = piece.offset + piece.bytes.size();
    for (std::uint64_t page = piece.offset / kPageBytes; page * kPageBytes < end; ++page)
      if (auto& chunk = chunks_[piece.block][page / kChunkPages]) chunk->stale[page % kChunkPages] = true;
  }
}

/// Lets the disk begin with what was written, so that less is left when the guest waits for it.
void PageStore::write_back(std::uint64_t bytes) {
  std::uint64_t from = 0, to = 0;
  {
    const std::lock_guard lock(mutex_);
    not_begun_ += bytes;
    if (not_begun_ < kWriteBackStep) return;
    not_begun_ = 0;
    from = std::exchange(begun_, end());
    to = begun_;
  }
  // Only a beginning: whether it is on the disk is fsync's to say.
  ::sync_file_range(fd_, static_cast<off64_t>(from), static_cast<off64_t>(to - from), SYNC_FILE_RANGE_WRITE);
}

/// Finds or takes the slots of a piece, and keeps the books; what to write goes to `targets`.
Result<> PageStore::place(const Piece& piece, Before before, std::vector<Target>& targets) {
  ConstBytes rest = piece.bytes;
  for (std::uint64_t offset = piece.offset; !rest.empty();) {
    const std::uint64_t within = offset % kPageBytes, page = offset / kPageBytes;
    const ConstBytes bytes = rest.first(std::min<std::size_t>(rest.size(), kPageBytes - within));
    rest = rest.subspan(bytes.size());
    offset += bytes.size();
    const bool whole = bytes.size() == kPageBytes;
    const bool blank = whole && is_zero(bytes);
    const std::uint64_t sum = whole && !blank ? checksum(bytes) : 0;

    const std::lock_guard lock(mutex_);
    auto& chunk = chunks_[piece.block][page / kChunkPages];
    const std::uint64_t index = page % kChunkPages;
    if (blank) {
      if (chunk) drop_page(*chunk, index);
      continue;
    }
    if (!chunk) chunk = std::make_unique<Chunk>();
    std::uint32_t& slot = chunk->slot[index];
    if (slot != 0 && before == Before::perhaps_the_same) {
      if (whole && !chunk->stale[index] && chunk->sum[index] == sum) continue;
    } else if (slot != 0) {
      ++overwritten_;
    } else {
      RAMFERRY_TRY_ASSIGN(slot, take_slot(whole));
    }
    chunk->sum[index] = sum;
    chunk->stale[index] = !whole;
    targets.push_back({slot * kPageBytes + within, bytes});
  }
  return {};
}

/// A slot; one that is not about to be written whole reads as zeros. Under the lock.
Result<std::uint32_t> PageStore::take_slot(bool whole) {
  if (free_.empty()) {
    RAMFERRY_TRY(allocate((std::uint64_t{next_} + 1) * kPageBytes));
    return next_++;
  }
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  if (!whole) RAMFERRY_TRY(write_at(fd_, slot * kPageBytes, ConstBytes(kZeros), name_));
  return slot;
}

void PageStore::drop_page(Chunk& chunk, std::uint64_t page) {
  if (chunk.slot[page] == 0) return;
  free_.push_back(chunk.slot[page]);
  chunk.slot[page] = 0;
  chunk.stale[page] = false;
}

/// Writes the targets in order, neighbours with one call.
Result<> PageStore::write_out(std::span<const Target> targets) {
  std::array<iovec, kMostPieces> pieces;
  while (!targets.empty()) {
    std::size_t count = 0;
    std::uint64_t end = targets.front().at;
    while (count < targets.size() && count < pieces.size() && targets[count].at == end) {
      const ConstBytes bytes = targets[count].bytes;
      pieces[count++] = {const_cast<std::byte*>(bytes.data()), bytes.size()};
      end += bytes.size();
    }
    RAMFERRY_TRY(write_at(fd_, targets.front().at, std::span(pieces).first(count), name_));
    targets = targets.subspan(count);
  }
  return {};
}

Result<> PageStore::zero(std::uint32_t block, std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const std::uint64_t page = offset / kPageBytes;
    const std::uint64_t next = std::min(end, (page + 1) * kPageBytes);
    const std::lock_guard lock(mutex_);
    Chunk* const chunk = chunks_[block][page / kChunkPages].get();
    if (chunk == nullptr) {
      offset = std::min(end, (page / kChunkPages + 1) * kChunkPages * kPageBytes);
      continue;
    }
    const std::uint64_t index = page % kChunkPages;
    if (next - offset == kPageBytes) {
      drop_page(*chunk, index);
    } else if (chunk->slot[index] != 0) {
      chunk->stale[index] = true;
      const std::uint64_t at = chunk->slot[index] * kPageBytes + offset % kPageBytes;
      RAMFERRY_TRY(write_at(fd_, at, ConstBytes(kZeros).first(next - offset), name_));
    }
    offset = next;
  }
  return {};
}

Result<> PageStore::read(std::uint32_t block, std::uint64_t offset, Bytes page) const {
  const std::uint64_t number = offset / kPageBytes;
  const Chunk* const chunk = chunks_[block][number / kChunkPages].get();
  const std::uint32_t slot = chunk == nullptr ? 0 : chunk->slot[number % kChunkPages];
  if (slot != 0) return read_at(fd_, slot * kPageBytes, page, name_);
  std::fill(page.begin(), page.end(), std::byte{0});
  return {};
}

Result<> PageStore::allocate(std::uint64_t end) {
  if (end <= allocated_) return {};
  const std::uint64_t generous = end + kAllocationStep;
  for (const std::uint64_t until : {generous, end}) {
    const auto from = static_cast<off_t>(allocated_);
    if (::fallocate(fd_, FALLOC_FL_KEEP_SIZE, from, static_cast<off_t>(until - allocated_)) == 0) {
      allocated_ = until;
      return {};
    }
    // A file system that cannot promise room: writing will tell.
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
      allocated_ = until;
      return {};
    }
  }
  return fail_errno(errno, "making room in " + name_, "free space on that disk, or save elsewhere");
}

Result<> PageStore::reserve(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  return allocate(end() + pages() * kMostIndexPerPage + bytes);
}

std::uint64_t PageStore::pages() const noexcept {
  return next_ - 1 - free_.size();
}

template <class Visit>
Result<> PageStore::each_page(Visit visit) {
  for (Chunks& chunks : chunks_) {
    for (auto& chunk : chunks) {
      for (std::uint64_t page = 0; chunk && page < kChunkPages; ++page)
        if (chunk->slot[page] != 0) RAMFERRY_TRY(visit(*chunk, page));
    }
  }
  return {};
}

Result<> PageStore::settle() {
  RAMFERRY_TRY(sum_stale());
  return compact();
}

Result<> PageStore::sum_stale() {
  std::array<std::byte, kPageBytes> content;
  return each_page([&](Chunk& chunk, std::uint64_t page) -> Result<> {
    if (!chunk.stale[page]) return {};
    RAMFERRY_TRY(read_at(fd_, chunk.slot[page] * kPageBytes, Bytes(content), name_));
    if (is_zero(content)) {
      drop_page(chunk, page);
    } else {
      chunk.sum[page] = checksum(content);
      chunk.stale[page] = false;
    }
    return {};
  });
}

/// Moves the last pages into the slots that were given back, so that the file has no holes.
Result<> PageStore::compact() {
  if (free_.empty()) return {};
  const auto used = static_cast<std::uint32_t>(pages());
  std::sort(free_.begin(), free_.end());
  auto hole = free_.begin();  // those beyond `used` come last, and are not needed
  std::array<std::byte, kPageBytes> content;
  const auto move_down = [&](Chunk& chunk, std::uint64_t page) -> Result<> {
    if (chunk.slot[page] <= used) return {};
    RAMFERRY_TRY(read_at(fd_, chunk.slot[page] * kPageBytes, Bytes(content), name_));
    RAMFERRY_TRY(write_at(fd_, *hole * kPageBytes, ConstBytes(content), name_));
    chunk.slot[page] = *hole++;
    return {};
  };
  RAMFERRY_TRY(each_page(move_down));
  free_.clear();
  next_ = used + 1;
  return {};
}

void PageStore::append_index(WireWriter& out) const {
  for (const Chunks& chunks : chunks_) {
    std::vector<std::array<std::uint32_t, 3>> runs;  // first page, count, slot
    std::vector<std::uint64_t> sums;
    for (std::size_t number = 0; number < chunks.size(); ++number) {
      for (std::uint64_t index = 0; chunks[number] && index < kChunkPages; ++index) {
        const std::uint32_t slot = chunks[number]->slot[index];
        if (slot == 0) continue;
        const auto page = static_cast<std::uint32_t>(number * kChunkPages + index);
        sums.push_back(chunks[number]->sum[index]);
        if (!runs.empty() && runs.back()[0] + runs.back()[1] == page &&
            runs.back()[2] + runs.back()[1] == slot)
          ++runs.back()[1];
        else
          runs.push_back({page, 1, slot});
      }
    }
    out.u32(static_cast<std::uint32_t>(runs.size()));
    for (const auto& [page, count, slot] : runs) out.u32(page).u32(count).u32(slot);
    for (const std::uint64_t sum : sums) out.u64(sum);
  }
}

}  // namespace ramferry::checkpoint
