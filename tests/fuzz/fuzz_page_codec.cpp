// SPDX-License-Identifier: MIT
// Pages that come encoded: whatever the payload is, nothing outside the pages it is for changes.
//
// The first byte says which encoding, the second for how much memory; the rest is the payload.
#include "fuzz/replay.hpp"
#include "guest_landing.hpp"
#include "page_codec.hpp"

#include <ramferry/migration/xbzrle.hpp>

#include <algorithm>

using namespace ramferry;
using namespace ramferry::migration;

namespace {

constexpr std::size_t kPage = 4096, kGuardPages = 1, kMostPages = 20;  // more than a piece
constexpr std::byte kOld{0xa5};

bool is_old(ConstBytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte each) { return each == kOld; });
}

fuzz::Input headed(Encoding encoding, std::size_t pages, ConstBytes payload) {
  fuzz::Input all;
  WireWriter(all).u8(encoding).u8(static_cast<std::uint8_t>(pages - 1)).raw(payload);
  return all;
}

/// `pages` pages of content that gets shorter, as a source sends them.
fuzz::Input compressed(CompressMethod method, std::size_t pages) {
  std::vector<std::byte> content(pages * kPage);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i / 97);
  std::vector<std::vector<std::byte>> small;
  std::vector<ConstBytes> pieces;
  for (std::size_t at = 0; at < content.size(); at += page_codec::kPieceBytes) {
    const ConstBytes piece =
        ConstBytes(content).subspan(at, std::min(page_codec::kPieceBytes, content.size() - at));
    small.emplace_back(piece.size());
    const std::size_t length =
        page_codec::compress({.compress = true, .method = method}, piece, small.back());
    pieces.push_back(ConstBytes(small.back()).first(length));
  }
  std::vector<std::byte> payload;
  page_codec::pack(pieces, payload);
  return headed(page_codec::encoding_of(method), pages, payload);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ConstBytes all = fuzz::input(data, size);
  if (all.size() < 2) return 0;
  const auto encoding = std::to_integer<Encoding>(all[0]);
  const std::size_t length = (1 + std::to_integer<std::size_t>(all[1]) % kMostPages) * kPage;
  std::vector<std::byte> memory(length + 2 * kGuardPages * kPage, kOld);
  static Decompressors decompressors([] { return 1U; });
  GuestLanding landing(memory, kPage, MemoryLanding::Content::unknown, decompressors);
  const auto stored = landing.store(kGuardPages * kPage, length, encoding, all.subspan(2));
  RAMFERRY_FUZZ_CHECK(stored || !stored.error().message().empty());
  RAMFERRY_FUZZ_CHECK(is_old(ConstBytes(memory).first(kGuardPages * kPage)));
  RAMFERRY_FUZZ_CHECK(is_old(ConstBytes(memory).last(kGuardPages * kPage)));
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  std::vector<std::byte> now(kPage, kOld), delta(kPage);
  now[100] = now[4000] = std::byte{1};
  const auto changes = xbzrle_encode(std::vector<std::byte>(kPage, kOld), now, delta);
  RAMFERRY_FUZZ_CHECK(changes && *changes != 0);
  return {headed(page_codec::kCopy, 1, now),   headed(page_codec::kXbzrle, 1, Bytes(delta).first(*changes)),
          compressed(CompressMethod::zlib, 2), compressed(CompressMethod::zlib, 17),
          compressed(CompressMethod::zstd, 2), compressed(CompressMethod::zstd, 17)};
}
