// SPDX-License-Identifier: MIT
#include <ramferry/migration/xbzrle.hpp>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

namespace ramferry::migration {
namespace {

std::uint64_t load_word(const std::byte* at) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof word);
  return word;
}

/// The bytes of a word that are zero, as 0x80 in each such byte's place (exact for every byte, not only the
/// first).
std::uint64_t zero_bytes(std::uint64_t word) noexcept {
  constexpr std::uint64_t kLow = 0x7f7f7f7f7f7f7f7fULL;
  return ~(((word & kLow) + kLow) | word | kLow);
}

/// The first position at or after `from` where the two differ, or the length.
std::size_t end_of_same(ConstBytes a, ConstBytes b, std::size_t from) noexcept {
  const std::size_t size = a.size();
  // Four words at a time: unchanged stretches are long, and the compiler makes vector code of this.
  while (from + 32 <= size) {
    const std::byte* x = a.data() + from;
    const std::byte* y = b.data() + from;
    const std::uint64_t differ = (load_word(x) ^ load_word(y)) | (load_word(x + 8) ^ load_word(y + 8)) |
                                 (load_word(x + 16) ^ load_word(y + 16)) |
                                 (load_word(x + 24) ^ load_word(y + 24));
    if (differ != 0) break;
    from += 32;
  }
  while (from + 8 <= size) {
    const std::uint64_t differ = load_word(a.data() + from) ^ load_word(b.data() + from);
    if (differ != 0) return from + static_cast<std::size_t>(std::countr_zero(differ)) / 8;
    from += 8;
  }
  while (from < size && a[from] == b[from]) ++from;
  return from;
}

/// The first position at or after `from` where the two agree, or the length.
std::size_t end_of_changed(ConstBytes a, ConstBytes b, std::size_t from) noexcept {
  const std::size_t size = a.size();
  while (from + 8 <= size) {
    const std::uint64_t same = zero_bytes(load_word(a.data() + from) ^ load_word(b.data() + from));
    if (same != 0) return from + static_cast<std::size_t>(std::countr_zero(same)) / 8;
    from += 8;
  }
  while (from < size && a[from] != b[from]) ++from;
  return from;
}

std::size_t number_bytes(std::size_t value) noexcept {
  return value < 0x80 ? 1 : 2;
}

std::byte* put_number(std::byte* at, std::size_t value) noexcept {
  if (value < 0x80) {
    *at++ = static_cast<std::byte>(value);
  } else {
    *at++ = static_cast<std::byte>((value & 0x7f) | 0x80);
    *at++ = static_cast<std::byte>(value >> 7);
  }
  return at;
}

/// Reads a number of at most two bytes from the front of `delta`; nothing if it is malformed.
std::optional<std::size_t> take_number(ConstBytes& delta) noexcept {
  if (delta.empty()) return std::nullopt;
  const auto low = std::to_integer<std::size_t>(delta[0]);
  if (low < 0x80) {
    delta = delta.subspan(1);
    return low;
  }
  if (delta.size() < 2 || std::to_integer<std::size_t>(delta[1]) >= 0x80) return std::nullopt;
  const std::size_t value = (low & 0x7f) | std::to_integer<std::size_t>(delta[1]) << 7;
  delta = delta.subspan(2);
  return value;
}

}  // namespace

std::optional<std::size_t> xbzrle_encode(ConstBytes before, ConstBytes now, Bytes into) noexcept {
  assert(before.size() == now.size() && now.size() < 1 << 14);
  std::byte* out = into.data();
  std::size_t room = into.size();
  for (std::size_t at = 0; at < now.size();) {
    const std::size_t changed = end_of_same(before, now, at);
    if (changed == now.size()) break;
    const std::size_t end = end_of_changed(before, now, changed);
    const std::size_t same_length = changed - at;
    const std::size_t changed_length = end - changed;
    const std::size_t needed = number_bytes(same_length) + number_bytes(changed_length) + changed_length;
    if (needed > room) return std::nullopt;
    out = put_number(put_number(out, same_length), changed_length);
    std::memcpy(out, now.data() + changed, changed_length);
    out += changed_length;
    room -= needed;
    at = end;
  }
  return static_cast<std::size_t>(out - into.data());
}

Result<> xbzrle_decode(ConstBytes delta, Bytes page) {
  const auto broken = [](const char* why) {
    return fail(errc::protocol_mismatch, std::string("decoding an XBZRLE page: ") + why);
  };
  std::size_t at = 0;
  while (!delta.empty()) {
    const auto same = take_number(delta);
    if (!same) return broken("a length is malformed");
    const auto changed = take_number(delta);
    if (!changed || *changed == 0) return broken("a changed run has no length");
    if (*same > page.size() - at) return broken("an unchanged run leaves the page");
    at += *same;
    if (*changed > page.size() - at) return broken("a changed run leaves the page");
    if (*changed > delta.size()) return broken("changed bytes are missing");
    std::memcpy(page.data() + at, delta.data(), *changed);
    at += *changed;
    delta = delta.subspan(*changed);
  }
  return {};
}

std::uint64_t XbzrleCache::rounded(std::uint64_t bytes, std::uint64_t page_bytes) noexcept {
  return std::bit_floor(std::max<std::uint64_t>(bytes / page_bytes, 1)) * page_bytes;
}

XbzrleCache::XbzrleCache(std::uint64_t bytes, std::uint64_t page_bytes)
    : page_bytes_(page_bytes),
      slots_(rounded(bytes, page_bytes) / page_bytes),
      memory_(rounded(bytes, page_bytes)) {}

Bytes XbzrleCache::find(std::uint64_t page, std::uint64_t round) noexcept {
  Slot& slot = slots_[index(page)];
  if (!slot.used || slot.page != page) return {};
  slot.round = round;
  return content(index(page));
}

bool XbzrleCache::has_room(std::uint64_t page) const noexcept {
  const Slot& slot = slots_[index(page)];
  return !slot.used || slot.page == page;
}

bool XbzrleCache::insert(std::uint64_t page, ConstBytes bytes, std::uint64_t round) noexcept {
  assert(bytes.size() == page_bytes_);
  Slot& slot = slots_[index(page)];
  if (slot.used && slot.page != page && slot.round + 1 >= round) return false;
  slot = {page, round, true};
  std::memcpy(content(index(page)).data(), bytes.data(), bytes.size());
  return true;
}

void XbzrleCache::erase(std::uint64_t page) noexcept {
  Slot& slot = slots_[index(page)];
  if (slot.page == page) slot.used = false;
}

void XbzrleCache::resize(std::uint64_t bytes) {
  if (rounded(bytes, page_bytes_) == memory_.size()) return;
  XbzrleCache resized(bytes, page_bytes_);
  for (std::size_t at = 0; at < slots_.size(); ++at)
    if (slots_[at].used) resized.insert(slots_[at].page, content(at), slots_[at].round);
  *this = std::move(resized);
}

}  // namespace ramferry::migration
