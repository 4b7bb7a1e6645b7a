// SPDX-License-Identifier: MIT
// The 64 bytes with which a channel of QEMU's multifd introduces itself.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ramferry::tcp {

inline constexpr std::size_t kMultifdHelloBytes = 64;

struct MultifdHello {
  std::array<std::byte, 16> uuid{};  ///< the machine's; zeros where it was started without one
  std::uint8_t channel = 0;          ///< from 0
};

/// Appends it.
void encode_multifd_hello(const MultifdHello& hello, std::vector<std::byte>& into);
Result<MultifdHello> decode_multifd_hello(ConstBytes bytes);

}  // namespace ramferry::tcp
