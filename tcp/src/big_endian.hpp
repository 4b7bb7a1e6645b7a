// SPDX-License-Identifier: MIT
// Big-endian fields at fixed places: what frame tables of a thousand entries need to be cheap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ramferry::tcp {

template <class T>
void store_big_endian(std::byte* at, T value) noexcept {
  static_assert(std::is_unsigned_v<T>);
  for (std::size_t i = 0; i < sizeof(T); ++i)
    at[i] = static_cast<std::byte>(value >> (8 * (sizeof(T) - 1 - i)));
}

template <class T>
T load_big_endian(const std::byte* at) noexcept {
  static_assert(std::is_unsigned_v<T>);
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    value = static_cast<T>(value | static_cast<T>(std::to_integer<T>(at[i]) << (8 * (sizeof(T) - 1 - i))));
  return value;
}

}  // namespace ramferry::tcp
