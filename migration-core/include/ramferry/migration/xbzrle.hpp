// SPDX-License-Identifier: MIT
// QEMU's delta encoding of a page against its previous content, and the bounded cache of previous contents.
//
// The encoding: pairs of runs, (length of an unchanged run, length of a changed run, the changed bytes), each
// length an unsigned LEB128 number. A trailing unchanged run is left out; an unchanged page encodes to
// nothing. Both sides must hold the same previous content, so what is cached is byte for byte what was sent
// ("Encoders work on a private copy" in docs/design-notes.md).
#pragma once

#include <ramferry/bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace ramferry::migration {

/// Encodes `now` against `before` (same length, at most 16383 bytes) into `into`; the encoded length, 0 if
/// nothing changed, or nothing if it does not fit. Both inputs must be private copies.
std::optional<std::size_t> xbzrle_encode(ConstBytes before, ConstBytes now, Bytes into) noexcept;

/// Applies `delta` to `page`, which holds the previous content. errc::protocol_mismatch if the delta is
/// malformed or leaves the page; the page may then be half changed.
Result<> xbzrle_decode(ConstBytes delta, Bytes page);

/// Previous contents of pages, in at most `bytes` of memory. One thread.
class XbzrleCache {
 public:
  /// The capacity is rounded down to a power of two of pages, at least one.
  XbzrleCache(std::uint64_t bytes, std::uint64_t page_bytes);

  /// The capacity that `bytes` gives, in bytes. What `migrate-set-cache-size` answers.
  static std::uint64_t rounded(std::uint64_t bytes, std::uint64_t page_bytes) noexcept;

  std::uint64_t bytes() const noexcept { return memory_.size(); }
  /// The cached content of page number `page` (any numbering that names each page once), or empty.
  Bytes find(std::uint64_t page, std::uint64_t round) noexcept;
  /// Keeps `content`, unless its place is held by a page that was used in this round or the one before: hot
  /// pages stay. Whether it was kept.
  bool insert(std::uint64_t page, ConstBytes content, std::uint64_t round) noexcept;
  /// Whether insert() would keep this page without another one having to go.
  bool has_room(std::uint64_t page) const noexcept;
  /// Forgets a page whose content at the destination is not what is cached.
  void erase(std::uint64_t page) noexcept;
  /// Keeps what fits.
  void resize(std::uint64_t bytes);

 private:
  struct Slot {
    std::uint64_t page = 0, round = 0;
    bool used = false;
  };
  std::size_t index(std::uint64_t page) const noexcept { return page & (slots_.size() - 1); }
  Bytes content(std::size_t slot) noexcept { return Bytes(memory_).subspan(slot * page_bytes_, page_bytes_); }

  std::uint64_t page_bytes_;
  std::vector<Slot> slots_;
  std::vector<std::byte> memory_;
};

}  // namespace ramferry::migration
