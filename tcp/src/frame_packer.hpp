// SPDX-License-Identifier: MIT
// Gathers placements for one lane into frames: adjacent ones merge, bulk is cut to a size that keeps both
// ends busy.
#pragma once

#include "frame.hpp"
#include "lane_writer.hpp"

#include <ramferry/channel.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ramferry::tcp {

class FramePacker {
 public:
  /// Where bulk is cut.
  static constexpr std::size_t kFrameBytes = std::size_t{1} << 20;

  /// With `keep_encoded` encoded bytes are copied, because the frame will outlive the call that brought them.
  /// Raw ones never are.
  explicit FramePacker(bool keep_encoded) noexcept : keep_encoded_(keep_encoded) {}

  /// Takes the first part of a raw placement, or all of an encoded one, which must fit kMaxPlaceBytes;
  /// returns how many of its bytes. Zero: it needs the next frame.
  std::size_t add(const Placement& placement);
  bool empty() const noexcept { return extents_.empty(); }
  bool full() const noexcept {
    return frame_.body_bytes >= kFrameBytes || extents_.size() >= kMaxEntries ||
           frame_.body.size() >= kMaxEntries;
  }
  /// The frame, to be moved from or written as it is; clear() afterwards.
  OutFrame& seal();
  void clear() noexcept;

 private:
  std::size_t add_encoded(const Placement& placement);

  const bool keep_encoded_;
  OutFrame frame_;
  std::vector<Extent> extents_;
};

}  // namespace ramferry::tcp
