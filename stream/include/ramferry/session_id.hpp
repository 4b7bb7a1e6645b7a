// SPDX-License-Identifier: MIT
// The 128-bit name of one migration. It outlives a connection: a reconnect is a new channel, same session.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <string>

namespace ramferry {

struct SessionId {
  std::array<std::byte, 16> value{};

  static SessionId random();
  /// 32 hexadecimal digits.
  std::string to_string() const;
  bool is_nil() const noexcept { return *this == SessionId{}; }
  bool operator==(const SessionId&) const noexcept = default;
};

}  // namespace ramferry
