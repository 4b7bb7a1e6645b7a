// SPDX-License-Identifier: MIT
#include "stream_input.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace ramferry::checkpoint {

StreamInput::StreamInput(ByteStream& stream, std::size_t buffer)
    : stream_(stream), buffer_(std::max(buffer, 2 * kMostView)), other_(buffer_.size()) {}

/// Moves what is left to the other buffer's front and receives behind it; false at the end of the stream.
Result<bool> StreamInput::fill() {
  if (before_refill_) RAMFERRY_TRY(before_refill_());
  std::memcpy(other_.data(), buffer_.data() + begin_, end_ - begin_);
  buffer_.swap(other_);
  end_ -= begin_;
  begin_ = 0;
  RAMFERRY_TRY_ASSIGN(const std::size_t got, stream_.receive(Bytes(buffer_).subspan(end_), deadline_));
  if (tap_) RAMFERRY_TRY(tap_(ConstBytes(buffer_).subspan(end_, got)));
  end_ += got;
  return got != 0;
}

Result<ConstBytes> StreamInput::view(std::size_t count) {
  assert(count <= kMostView);
  while (end_ - begin_ < count) {
    RAMFERRY_TRY_ASSIGN(const bool more, fill());
    if (!more)
      return fail(errc::peer_gone,
                  "the stream ended too early, after " + std::to_string(consumed_) + " bytes");
  }
  const ConstBytes bytes = ConstBytes(buffer_).subspan(begin_, count);
  begin_ += count;
  consumed_ += count;
  return bytes;
}

Result<> StreamInput::get(Bytes into) {
  while (!into.empty()) {
    const std::size_t step = std::min(into.size(), kMostView);
    RAMFERRY_TRY_ASSIGN(const ConstBytes bytes, view(step));
    std::memcpy(into.data(), bytes.data(), step);
    into = into.subspan(step);
  }
  return {};
}

Result<std::optional<std::uint8_t>> StreamInput::peek() {
  if (begin_ == end_) {
    RAMFERRY_TRY_ASSIGN(const bool more, fill());
    if (!more) return std::nullopt;
  }
  return std::to_integer<std::uint8_t>(buffer_[begin_]);
}

Result<ConstBytes> StreamInput::some() {
  RAMFERRY_TRY_ASSIGN(const auto next, peek());
  if (!next) return ConstBytes{};
  const ConstBytes bytes = ConstBytes(buffer_).subspan(begin_, end_ - begin_);
  begin_ = end_;
  consumed_ += bytes.size();
  return bytes;
}

}  // namespace ramferry::checkpoint
