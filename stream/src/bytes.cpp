// SPDX-License-Identifier: MIT
#include <ramferry/bytes.hpp>

#include <algorithm>
#include <cassert>

namespace ramferry {
namespace {

template <class T>
void put_big_endian(std::vector<std::byte>& into, T value) {
  for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8)
    into.push_back(static_cast<std::byte>(value >> shift));
}

template <class T>
T get_big_endian(ConstBytes bytes) noexcept {
  T value = 0;
  for (const std::byte each : bytes) value = static_cast<T>((value << 8) | std::to_integer<T>(each));
  return value;
}

}  // namespace

WireWriter& WireWriter::u8(std::uint8_t value) {
  into_.push_back(static_cast<std::byte>(value));
  return *this;
}

WireWriter& WireWriter::u16(std::uint16_t value) {
  put_big_endian(into_, value);
  return *this;
}

WireWriter& WireWriter::u32(std::uint32_t value) {
  put_big_endian(into_, value);
  return *this;
}

WireWriter& WireWriter::u64(std::uint64_t value) {
  put_big_endian(into_, value);
  return *this;
}

WireWriter& WireWriter::raw(ConstBytes bytes) {
  into_.insert(into_.end(), bytes.begin(), bytes.end());
  return *this;
}

WireWriter& WireWriter::zeros(std::size_t count) {
  into_.resize(into_.size() + count);
  return *this;
}

WireWriter& WireWriter::text8(std::string_view text) {
  assert(text.size() <= 0xff);
  return u8(static_cast<std::uint8_t>(text.size())).raw(as_bytes(text));
}

WireWriter& WireWriter::text16(std::string_view text) {
  assert(text.size() <= 0xffff);
  return u16(static_cast<std::uint16_t>(text.size())).raw(as_bytes(text));
}

std::uint8_t WireReader::u8() noexcept {
  return get_big_endian<std::uint8_t>(raw(1));
}
std::uint16_t WireReader::u16() noexcept {
  return get_big_endian<std::uint16_t>(raw(2));
}
std::uint32_t WireReader::u32() noexcept {
  return get_big_endian<std::uint32_t>(raw(4));
}
std::uint64_t WireReader::u64() noexcept {
  return get_big_endian<std::uint64_t>(raw(8));
}

ConstBytes WireReader::raw(std::size_t count) noexcept {
  if (!ok_ || count > rest_.size()) {
    ok_ = false;
    return {};
  }
  const ConstBytes field = rest_.first(count);
  rest_ = rest_.subspan(count);
  return field;
}

std::string WireReader::text8() {
  const ConstBytes text = raw(u8());
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

std::string WireReader::text16() {
  const ConstBytes text = raw(u16());
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

Result<> WireReader::finish(std::string_view what) const {
  RAMFERRY_TRY(finish_prefix(what));
  if (!rest_.empty())
    return fail(errc::protocol_mismatch,
                "reading " + std::string(what) + ": " + std::to_string(rest_.size()) + " bytes too many");
  return {};
}

Result<> WireReader::finish_prefix(std::string_view what) const {
  if (!ok_) return fail(errc::protocol_mismatch, "reading " + std::string(what) + ": it is too short");
  return {};
}

}  // namespace ramferry
