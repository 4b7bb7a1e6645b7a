// SPDX-License-Identifier: MIT
// A plain QEMU stream whose RAM does not travel in it but past it, in rounds: what QEMU's hook records mark.
//
// The stream's RAM section holds a marker word where its pages would be. At each marker both ends leave the
// stream: the source zeroes and writes blocks of the destination until it ends the round; then the bytes go
// on. The first marker comes with the list of blocks; the two ends compare it in that round.
//
// Threads: one for all calls, those of ByteStream included, but cancel() and stats(), which are for any.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/slot.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace ramferry {

class HookedStream : public ByteStream {
 public:
  /// A stretch of a RAM block; blocks are numbered as the stream lists them.
  struct Range {
    std::uint32_t block = 0;
    std::uint64_t offset = 0, length = 0;
  };

  // --- the end that takes RAM in ---

  /// Where each block lands: mapped memory, of the block's size. Once, before the first round; the landings
  /// are borrowed until close_windows() or the stream's end. Nothing can be written yet.
  virtual Result<> land(std::vector<Landing*> blocks) = 0;
  /// A marker was read: serves the source until it ends the round. Then all that it wrote is in place.
  virtual Result<> take_round() = 0;
  /// Nothing lands any more, whatever the source does. No round may follow.
  virtual void close_windows() noexcept = 0;

  // --- the end that sends RAM ---

  /// The first marker was sent: compares the blocks with the destination's, whose sizes must be
  /// `block_bytes`. `plan` is what will be staged, in this order: the destination gets it ready ahead of
  /// time. Ends the round.
  virtual Result<> agree(std::span<const std::uint64_t> block_bytes, std::vector<Range> plan) = 0;
  /// Memory for the next bytes of a block, at least one page and at most `wanted.length`: the caller fills
  /// all of it before the next call, which sends it. Blocks while too much is on its way.
  virtual Result<Bytes> stage(const Range& wanted) = 0;
  /// The range reads as zeros after the round. In a round, a page is staged or zeroed, and once.
  virtual Result<> zero(const Range& range) = 0;
  /// All that was staged is in place when this returns, and the stream goes on.
  virtual Result<> end_round() = 0;
};

}  // namespace ramferry
