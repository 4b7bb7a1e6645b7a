// SPDX-License-Identifier: MIT
// The section "ram" as a byte stream holds it: QEMU's version 4.
#include "stream_mapper.hpp"

#include <ramferry/migration/ram_wire.hpp>

#include <algorithm>

namespace ramferry::cli {

using namespace migration::ram_wire;

Result<> StreamMapper::ram() {
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const bool more, ram_record());
    if (!more) return {};
  }
}

Result<bool> StreamMapper::ram_record() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t word, field(8));
  const std::uint64_t flags = word & kFlagMask & ~kContinue;
  const std::uint64_t offset = word & ~kFlagMask;
  if (flags == kEnd) return false;
  if (flags == kHook || flags == kMultifdFlush) return true;
  if (flags == kMemSize) {
    RAMFERRY_TRY(ram_blocks(offset));
    return true;
  }
  if (flags != kZero && flags != kPage && flags != kXbzrle && flags != kCompress)
    return broken("a RAM record of unknown kind " + std::to_string(flags));
  RAMFERRY_TRY_ASSIGN(const std::size_t block, ram_block(word));
  ram_block_ = block;
  MappedBlock& into = map_.blocks[block];
  if (offset >= into.bytes) return broken("a page beyond the end of RAM block '" + into.name + "'");
  const std::uint64_t page = offset / map_.page_bytes;
  if (!into.seen[page]) ++into.distinct;
  into.seen[page] = true;
  switch (flags) {
    case kZero:
      ++into.zero;
      RAMFERRY_TRY(skip(1));
      break;
    case kPage:
      ++into.normal;
      RAMFERRY_TRY(skip(map_.page_bytes));
      break;
    case kXbzrle: {
      ++into.xbzrle;
      RAMFERRY_TRY(field(1));
      RAMFERRY_TRY_ASSIGN(const std::uint64_t length, field(2));
      RAMFERRY_TRY(skip(length));
      break;
    }
    default: {
      ++into.compressed;
      RAMFERRY_TRY_ASSIGN(const std::uint64_t length, field(4));
      RAMFERRY_TRY(skip(length));
      break;
    }
  }
  return true;
}

Result<> StreamMapper::ram_blocks(std::uint64_t total) {
  constexpr std::uint64_t kMostPages = std::uint64_t{1} << 30;  // a bit per page is kept
  if (total / map_.page_bytes > kMostPages || !map_.blocks.empty())
    return broken("RAM of " + std::to_string(total) + " bytes");
  while (total != 0) {
    MappedBlock block;
    RAMFERRY_TRY_ASSIGN(block.name, text8());
    RAMFERRY_TRY_ASSIGN(block.bytes, field(8));
    if (block.bytes == 0 || block.bytes > total)
      return broken("RAM block '" + block.name + "' is larger than what is left of all RAM");
    total -= block.bytes;
    block.seen.resize((block.bytes + map_.page_bytes - 1) / map_.page_bytes);
    map_.blocks.push_back(std::move(block));
  }
  return {};
}

Result<std::size_t> StreamMapper::ram_block(std::uint64_t word) {
  if ((word & kContinue) != 0) {
    if (!ram_block_) return broken("a page of 'the same block', before any");
    return *ram_block_;
  }
  RAMFERRY_TRY_ASSIGN(const std::string name, text8());
  const auto same = [&name](const MappedBlock& block) { return block.name == name; };
  const auto at = std::find_if(map_.blocks.begin(), map_.blocks.end(), same);
  if (at == map_.blocks.end()) return broken("a page of RAM block '" + name + "', which was not announced");
  return static_cast<std::size_t>(at - map_.blocks.begin());
}

}  // namespace ramferry::cli
