// SPDX-License-Identifier: MIT
#include <ramferry/migration/section_stream.hpp>

#include <algorithm>
#include <cstring>

namespace ramferry::migration {
namespace {

/// From this size on a piece is sent from, or received into, where it lies.
constexpr std::size_t kLarge = kStreamBuffer / 2;

Failure ended() {
  return fail(errc::peer_gone, "the stream ended too early");
}

}  // namespace

Result<> StreamWriter::put(ConstBytes bytes) {
  if (buffer_.size() + bytes.size() > kStreamBuffer) RAMFERRY_TRY(flush());
  written_ += bytes.size();
  if (bytes.size() >= kLarge) {
    RAMFERRY_TRY(flush());
    return stream_.send(bytes);
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return {};
}

Result<> StreamWriter::flush() {
  if (buffer_.empty()) return {};
  RAMFERRY_TRY(stream_.send(buffer_));
  buffer_.clear();
  return {};
}

Result<bool> StreamReader::fill() {
  RAMFERRY_TRY_ASSIGN(const std::size_t got, stream_.receive(buffer_, deadline_));
  begin_ = 0;
  end_ = got;
  return got != 0;
}

Result<> StreamReader::get(Bytes into) {
  consumed_ += into.size();
  while (!into.empty()) {
    if (begin_ == end_ && into.size() >= kLarge) {
      RAMFERRY_TRY_ASSIGN(const std::size_t got, stream_.receive(into, deadline_));
      if (got == 0) return ended();
      into = into.subspan(got);
      continue;
    }
    if (begin_ == end_) {
      RAMFERRY_TRY_ASSIGN(const bool more, fill());
      if (!more) return ended();
    }
    const std::size_t count = std::min(into.size(), end_ - begin_);
    std::memcpy(into.data(), buffer_.data() + begin_, count);
    begin_ += count;
    into = into.subspan(count);
  }
  return {};
}

Result<std::optional<std::uint8_t>> StreamReader::peek() {
  if (begin_ == end_) {
    RAMFERRY_TRY_ASSIGN(const bool more, fill());
    if (!more) return std::nullopt;
  }
  return std::to_integer<std::uint8_t>(buffer_[begin_]);
}

Result<> StreamReader::skip(std::uint64_t count) {
  consumed_ += count;
  while (count != 0) {
    if (begin_ == end_) {
      RAMFERRY_TRY_ASSIGN(const bool more, fill());
      if (!more) return ended();
    }
    const std::uint64_t step = std::min<std::uint64_t>(count, end_ - begin_);
    begin_ += static_cast<std::size_t>(step);
    count -= step;
  }
  return {};
}

}  // namespace ramferry::migration
