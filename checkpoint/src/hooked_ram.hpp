// SPDX-License-Identifier: MIT
// Where RAM lands that travels past the stream, on its way to the checkpoint.
//
// The source writes when and where it likes into what it was granted, and says nothing of it: only when its
// last round is over is it known what a page became. Until then the pages are in memory; what seems to be
// done with is stored ahead meanwhile, so that the source, whose guest stands still at the end, waits for a
// comparison rather than for the file. One thread, and one of its own.
#pragma once

#include "stream_saver.hpp"

#include <ramferry/hooked_stream.hpp>
#include <ramferry/slot.hpp>

#include <memory>
#include <vector>

namespace ramferry::checkpoint {

class HookedRam {
 public:
  /// Borrowed. The stream ends first.
  explicit HookedRam(HookedStream& stream);
  ~HookedRam();

  /// Memory for the blocks; nothing of it is touched yet. `into` outlives this, and stores what has settled
  /// meanwhile, before keep() tells it that it came.
  Result<> begin(const std::vector<BlockInfo>& blocks, StreamSaver& into);
  /// The stream is at a marker.
  Result<> round() { return stream_.take_round(); }
  /// After the last round: closes the windows, and tells `into` of every page that came.
  Result<> keep(StreamSaver& into);

 private:
  class Block;
  class Keeping;
  class Ahead;
  HookedStream& stream_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<Ahead> ahead_;
};

}  // namespace ramferry::checkpoint
