// SPDX-License-Identifier: MIT
#include "vm/page_stamp.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <cstring>

namespace ramferry::vm {
namespace {

constexpr std::uint32_t kStampMagic = 0x52464d50;

std::uint64_t checksum(ConstBytes page, std::uint64_t place, std::uint32_t generation) noexcept {
  const std::uint64_t seed = (place ^ std::uint64_t{generation} << 20) * 0x9e3779b97f4a7c15u;
  return XXH3_64bits_withSeed(page.data(), kBodyBytes, seed);
}

Verdict check_stamped(ConstBytes page, std::uint64_t place, std::uint32_t generation) noexcept {
  PageStamp stamp;
  std::memcpy(&stamp, page.data() + kBodyBytes, sizeof stamp);
  if (stamp.magic != kStampMagic) return is_zero(page) ? Verdict::lost_update : Verdict::wrong_content;
  if (stamp.checksum != checksum(page, stamp.place, stamp.generation))
    return stamp.place == place ? Verdict::torn : Verdict::wrong_content;
  if (stamp.place != place || stamp.generation > generation) return Verdict::misplaced;
  return stamp.generation == generation ? Verdict::right : Verdict::lost_update;
}

}  // namespace

std::string_view to_string(Verdict verdict) noexcept {
  constexpr std::array<std::string_view, kVerdicts> kNames = {
      "right", "not-untouched", "not-zero", "lost-update", "torn", "misplaced", "wrong-content"};
  return kNames[static_cast<std::size_t>(verdict)];
}

void stamp_page(Bytes page, std::uint64_t place, std::uint32_t generation) noexcept {
  const PageStamp stamp{.place = place,
                        .magic = kStampMagic,
                        .generation = generation,
                        .checksum = checksum(page, place, generation)};
  std::memcpy(page.data() + kBodyBytes, &stamp, sizeof stamp);
}

bool is_zero(ConstBytes page) noexcept {
  return page.empty() ||
         (page[0] == std::byte{0} && std::memcmp(page.data(), page.data() + 1, page.size() - 1) == 0);
}

Verdict check_page(ConstBytes page, std::uint64_t place, PageEntry expected) noexcept {
  switch (expected.kind) {
    case PageKind::untouched: return is_zero(page) ? Verdict::right : Verdict::not_untouched;
    case PageKind::zero: return is_zero(page) ? Verdict::right : Verdict::not_zero;
    case PageKind::stamped: return check_stamped(page, place, expected.generation);
  }
  return Verdict::wrong_content;
}

}  // namespace ramferry::vm
