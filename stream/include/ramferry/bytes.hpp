// SPDX-License-Identifier: MIT
// Spans of bytes, and the bounds-checked big-endian reader and writer that every wire format here uses.
#pragma once

#include <ramferry/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry {

using Bytes = std::span<std::byte>;
using ConstBytes = std::span<const std::byte>;

inline ConstBytes as_bytes(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Appends big-endian fields to a buffer that the caller owns.
class WireWriter {
 public:
  explicit WireWriter(std::vector<std::byte>& into) noexcept : into_(into) {}
  WireWriter& u8(std::uint8_t value);
  WireWriter& u16(std::uint16_t value);
  WireWriter& u32(std::uint32_t value);
  WireWriter& u64(std::uint64_t value);
  WireWriter& raw(ConstBytes bytes);
  WireWriter& zeros(std::size_t count);
  /// u8 length, then the text. The text must have at most 255 bytes.
  WireWriter& text8(std::string_view text);
  /// u16 length, then the text. The text must have at most 65535 bytes.
  WireWriter& text16(std::string_view text);

 private:
  std::vector<std::byte>& into_;
};

/// Reads big-endian fields from bytes that came from elsewhere. A field past the end reads as zero or empty
/// and makes the reader fail for good: read all fields, then ask finish() once, before any value is used.
class WireReader {
 public:
  explicit WireReader(ConstBytes from) noexcept : rest_(from) {}
  std::uint8_t u8() noexcept;
  std::uint16_t u16() noexcept;
  std::uint32_t u32() noexcept;
  std::uint64_t u64() noexcept;
  ConstBytes raw(std::size_t count) noexcept;
  std::string text8();
  std::string text16();
  std::size_t left() const noexcept { return rest_.size(); }
  bool ok() const noexcept { return ok_; }
  /// errc::protocol_mismatch if a field was missing, or if bytes are left over.
  Result<> finish(std::string_view what) const;
  /// As finish(), but further bytes may follow (fields of a newer version).
  Result<> finish_prefix(std::string_view what) const;

 private:
  ConstBytes rest_;
  bool ok_ = true;
};

}  // namespace ramferry
