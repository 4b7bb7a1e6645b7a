// SPDX-License-Identifier: MIT
// Big-endian fields at fixed places: what frame tables of a thousand entries need to be cheap.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace ramferry::tcp {

template <class T>
T swap_unless_big_endian(T value) noexcept {
  static_assert(std::is_unsigned_v<T>);
  if constexpr (std::endian::native == std::endian::big || sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <class T>
void store_big_endian(std::byte* at, T value) noexcept {
  value = swap_unless_big_endian(value);
  std::memcpy(at, &value, sizeof value);
}

template <class T>
T load_big_endian(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return swap_unless_big_endian(value);
}

}  // namespace ramferry::tcp
