// SPDX-License-Identifier: MIT
// Pages that prove themselves: content, then a stamp with the page's place, its generation and a checksum of
// both.
#pragma once

#include "vm/guest_memory.hpp"
#include "vm/page_table.hpp"

#include <ramferry/bytes.hpp>

#include <cstdint>
#include <string_view>

namespace ramferry::vm {

/// The last bytes of a stamped page, in the machine's byte order.
struct PageStamp {
  std::uint64_t place;  ///< block number << 48 | page number
  std::uint32_t magic, generation;
  std::uint64_t checksum;  ///< XXH3 of the body, seeded with place and generation
};
inline constexpr std::uint64_t kBodyBytes = kPageBytes - sizeof(PageStamp);

/// Where a page is; part of what its stamp covers.
constexpr std::uint64_t place_of(std::uint32_t block, std::uint64_t page) noexcept {
  return std::uint64_t{block} << 48 | page;
}

/// Writes the stamp that makes `page` right for `generation`. The body is in place already.
void stamp_page(Bytes page, std::uint64_t place, std::uint32_t generation) noexcept;
bool is_zero(ConstBytes page) noexcept;

enum class Verdict : std::uint8_t {
  right,
  not_untouched,  ///< never written, yet not zero
  not_zero,       ///< became zero, and still holds something
  lost_update,    ///< an older state of this page, whole
  torn,           ///< the stamp is this page's, the body is not what it was made for
  misplaced,      ///< a whole page that belongs elsewhere, or is newer than the table
  wrong_content,  ///< anything else
};
inline constexpr std::size_t kVerdicts = 7;
std::string_view to_string(Verdict verdict) noexcept;

/// What `page` is, by what the table expects at `place`.
Verdict check_page(ConstBytes page, std::uint64_t place, PageEntry expected) noexcept;

}  // namespace ramferry::vm
