// SPDX-License-Identifier: MIT
// Section payloads over a ByteStream, through one buffer: no system call per field, no copy of large pieces.
//
// One thread each. The stream is borrowed.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/migration/section.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ramferry::migration {

inline constexpr std::size_t kStreamBuffer = std::size_t{64} * 1024;

class StreamWriter final : public SectionWriter {
 public:
  explicit StreamWriter(ByteStream& stream) : stream_(stream) { buffer_.reserve(kStreamBuffer); }
  Result<> put(ConstBytes bytes) override;
  Result<> flush() override;
  std::uint64_t written() const noexcept override { return written_; }

 private:
  ByteStream& stream_;
  std::vector<std::byte> buffer_;
  std::uint64_t written_ = 0;
};

class StreamReader final : public SectionReader {
 public:
  explicit StreamReader(ByteStream& stream) : stream_(stream), buffer_(kStreamBuffer) {}
  /// errc::peer_gone if the stream ends before `into` is full.
  Result<> get(Bytes into) override;
  /// The next byte, which stays; no value at the end of the stream.
  Result<std::optional<std::uint8_t>> peek();
  /// Reads `count` bytes that nobody wants.
  Result<> skip(std::uint64_t count);
  /// For every later read. Where it passes: errc::timed_out, and what was read of an item is lost.
  void set_deadline(Deadline deadline) noexcept { deadline_ = deadline; }
  std::uint64_t consumed() const noexcept { return consumed_; }

 private:
  /// False at the end of the stream.
  Result<bool> fill();

  ByteStream& stream_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::uint64_t consumed_ = 0;
  Deadline deadline_ = Deadline::never();
};

}  // namespace ramferry::migration
