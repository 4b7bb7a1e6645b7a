// SPDX-License-Identifier: MIT
#include "page_codec.hpp"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

namespace ramferry::migration::page_codec {
namespace {

constexpr std::size_t kLengthBytes = sizeof(std::uint32_t);

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

/// 0 if it does not fit or fails.
std::size_t zstd_compress(int level, ConstBytes from, Bytes into) noexcept {
  thread_local const std::unique_ptr<ZSTD_CCtx, FreeCompressor> context(ZSTD_createCCtx());
  if (context == nullptr) return 0;
  const std::size_t length =
      ZSTD_compressCCtx(context.get(), into.data(), into.size(), from.data(), from.size(), level);
  return ZSTD_isError(length) != 0 ? 0 : length;
}

std::size_t zlib_compress(int level, ConstBytes from, Bytes into) noexcept {
  uLongf length = into.size();
  const int status = ::compress2(reinterpret_cast<Bytef*>(into.data()), &length,
                                 reinterpret_cast<const Bytef*>(from.data()), from.size(), level);
  return status == Z_OK ? length : 0;
}

bool zstd_decompress(ConstBytes from, Bytes into) noexcept {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context(ZSTD_createDCtx());
  if (context == nullptr) return false;
  return ZSTD_decompressDCtx(context.get(), into.data(), into.size(), from.data(), from.size()) ==
         into.size();
}

bool zlib_decompress(ConstBytes from, Bytes into) noexcept {
  uLongf length = into.size();
  const int status = ::uncompress(reinterpret_cast<Bytef*>(into.data()), &length,
                                  reinterpret_cast<const Bytef*>(from.data()), from.size());
  return status == Z_OK && length == into.size();
}

Failure broken(const std::string& what) {
  return fail(errc::protocol_mismatch, "decompressing pages: " + what);
}

}  // namespace

std::size_t compress(const PageCoding& coding, ConstBytes from, Bytes into) noexcept {
  if (coding.level == 0) return 0;
  const Bytes shorter = into.first(from.size() - 1);
  return coding.method == CompressMethod::zstd ? zstd_compress(coding.level, from, shorter)
                                               : zlib_compress(coding.level, from, shorter);
}

Result<> decompress(Encoding method, ConstBytes from, Bytes into) {
  const bool done = method == kZstd ? zstd_decompress(from, into) : zlib_decompress(from, into);
  if (!done) return broken(std::to_string(from.size()) + " bytes that are not what they should be");
  return {};
}

void pack(std::span<const ConstBytes> pieces, std::vector<std::byte>& into) {
  into.clear();
  WireWriter out(into);
  for (const ConstBytes piece : pieces) out.u32(static_cast<std::uint32_t>(piece.size()));
  for (const ConstBytes piece : pieces) out.raw(piece);
}

Result<std::vector<ConstBytes>> unpack(ConstBytes payload, std::size_t length) {
  const std::size_t count = (length + kPieceBytes - 1) / kPieceBytes;
  if (count == 0 || count > kMostPieces || payload.size() < count * kLengthBytes)
    return broken(std::to_string(payload.size()) + " bytes for " + std::to_string(length));
  WireReader lengths(payload.first(count * kLengthBytes));
  ConstBytes rest = payload.subspan(count * kLengthBytes);
  std::vector<ConstBytes> pieces;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t bytes = lengths.u32();
    const std::size_t whole = std::min(kPieceBytes, length - i * kPieceBytes);
    if (bytes > rest.size() || bytes > whole) return broken("a piece is too long");
    pieces.push_back(rest.first(bytes));
    rest = rest.subspan(bytes);
  }
  if (!rest.empty()) return broken("there is more than its pieces");
  return pieces;
}

[[gnu::noinline]] void copy_live(ConstBytes from, Bytes into) noexcept {
  std::memcpy(into.data(), from.data(), from.size());
}

}  // namespace ramferry::migration::page_codec
