// SPDX-License-Identifier: MIT
#include "frame_packer.hpp"

#include <algorithm>

namespace ramferry::tcp {

std::size_t FramePacker::add(const Placement& placement) {
  if (full()) return 0;
  if (placement.encoding != kRawEncoding) return add_encoded(placement);
  const std::size_t bytes = std::min(placement.bytes.size(), kFrameBytes - frame_.body_bytes);
  const auto length = static_cast<std::uint32_t>(bytes);
  Extent* const last = extents_.empty() ? nullptr : &extents_.back();
  if (last != nullptr && last->encoding == kRawEncoding && last->slot == placement.slot &&
      last->offset + last->length == placement.offset) {
    last->length += length;
    last->bytes += length;
  } else {
    extents_.push_back(
        {.slot = placement.slot, .offset = placement.offset, .length = length, .bytes = length});
  }
  frame_.append(placement.bytes.first(bytes));
  return bytes;
}

std::size_t FramePacker::add_encoded(const Placement& placement) {
  if (!empty() && frame_.body_bytes + placement.bytes.size() > kMaxPlaceBytes) return 0;
  extents_.push_back({.slot = placement.slot,
                      .offset = placement.offset,
                      .length = static_cast<std::uint32_t>(placement.length),
                      .bytes = static_cast<std::uint32_t>(placement.bytes.size()),
                      .encoding = placement.encoding});
  if (keep_encoded_)
    frame_.append_copy(placement.bytes);
  else
    frame_.append(placement.bytes);
  return placement.bytes.size();
}

OutFrame& FramePacker::seal() {
  encode_place(extents_, frame_.head);
  return frame_;
}

void FramePacker::clear() noexcept {
  frame_.clear();
  extents_.clear();
}

}  // namespace ramferry::tcp
