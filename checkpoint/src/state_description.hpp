// SPDX-License-Identifier: MIT
// Whether a description belongs to the device state before it: a guest can put what looks like one into its
// devices.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace ramferry::checkpoint {

struct Agreement {
  std::string problem;     ///< empty: they agree
  std::size_t looked = 0;  ///< bytes that were looked at, of both
  bool agrees() const noexcept { return problem.empty(); }
};

/// `sections` are whole, with their footers. They agree if the text is JSON whose "devices" are found as
/// heads of sections, in this order, the first one at the first byte or behind the ends of live sections; the
/// last footer is that of the last of them. Takes memory for one device only, and time in proportion to both.
Agreement compare(std::string_view description, ConstBytes sections);

}  // namespace ramferry::checkpoint
