// SPDX-License-Identifier: MIT
#include "stream_input.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace ramferry::checkpoint {

StreamInput::StreamInput(ByteStream& stream, std::size_t buffer)
    : stream_(stream),
      buffer_bytes_(std::max(buffer, 2 * kMostView)),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(buffer_bytes_)),
      other_(std::make_unique_for_overwrite<std::byte[]>(buffer_bytes_)) {}

/// Receives behind what is there; false at the end of the stream.
Result<bool> StreamInput::fill() {
  if (buffer_bytes_ - end_ < kMostView) RAMFERRY_TRY(turn());
  const Bytes room(buffer_.get() + end_, buffer_bytes_ - end_);
  RAMFERRY_TRY_ASSIGN(const std::size_t got, stream_.receive(room, deadline_));
  if (tap_) RAMFERRY_TRY(tap_(room.first(got)));
  end_ += got;
  return got != 0;
}

/// Goes on with the other buffer, with what is left at its front.
Result<> StreamInput::turn() {
  if (before_refill_) RAMFERRY_TRY(before_refill_());
  std::memcpy(other_.get(), buffer_.get() + begin_, end_ - begin_);
  buffer_.swap(other_);
  end_ -= begin_;
  begin_ = 0;
  return {};
}

Result<ConstBytes> StreamInput::view(std::size_t count) {
  assert(count <= kMostView);
  while (end_ - begin_ < count) {
    RAMFERRY_TRY_ASSIGN(const bool more, fill());
    if (!more)
      return fail(errc::peer_gone,
                  "the stream ended too early, after " + std::to_string(consumed_) + " bytes");
  }
  const ConstBytes bytes{buffer_.get() + begin_, count};
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
  const ConstBytes bytes{buffer_.get() + begin_, end_ - begin_};
  begin_ = end_;
  consumed_ += bytes.size();
  return bytes;
}

}  // namespace ramferry::checkpoint
