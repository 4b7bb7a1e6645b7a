// SPDX-License-Identifier: MIT
#include "guest_landing.hpp"

#include "page_codec.hpp"

#include <ramferry/migration/xbzrle.hpp>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

namespace ramferry::migration {

WorkerPool& Decompressors::pool() {
  const std::lock_guard lock(mutex_);
  if (pool_ == nullptr) pool_ = std::make_unique<WorkerPool>(threads_ ? threads_() : 2);
  return *pool_;
}

Result<> GuestLanding::store(std::uint64_t offset, std::uint64_t length, Encoding encoding,
                             ConstBytes bytes) {
  if (encoding > page_codec::kZstd)
    return fail(errc::unsupported, "storing pages under the unknown encoding " + std::to_string(encoding));
  const bool as_they_are = encoding == kRawEncoding || encoding == page_codec::kCopy;
  if (as_they_are && bytes.size() != length)
    return fail(errc::protocol_mismatch,
                "storing " + std::to_string(bytes.size()) + " bytes as " + std::to_string(length));
  if (encoding == page_codec::kXbzrle && (length != page_bytes_ || offset % page_bytes_ != 0))
    return fail(errc::protocol_mismatch, "changing " + std::to_string(length) + " bytes at " +
                                             std::to_string(offset) + ", which is not a page");
  note_written(offset, length);
  const Bytes into = window(offset, length);
  if (as_they_are) {
    std::memcpy(into.data(), bytes.data(), bytes.size());
    return {};
  }
  if (encoding == page_codec::kXbzrle) return xbzrle_decode(bytes, into);
  return store_compressed(encoding, bytes, into);
}

Result<> GuestLanding::store_compressed(Encoding method, ConstBytes payload, Bytes into) {
  using page_codec::kPieceBytes;
  RAMFERRY_TRY_ASSIGN(const auto pieces, page_codec::unpack(payload, into.size()));
  std::vector<Result<>> results(pieces.size());
  decompressors_.pool().run(pieces.size(), [&](std::size_t i) {
    const std::size_t at = i * kPieceBytes;
    const Bytes whole = into.subspan(at, std::min(kPieceBytes, into.size() - at));
    if (pieces[i].size() == whole.size()) {
      std::memcpy(whole.data(), pieces[i].data(), whole.size());
    } else {
      results[i] = page_codec::decompress(method, pieces[i], whole);
    }
  });
  for (Result<>& each : results) RAMFERRY_TRY(std::move(each));
  return {};
}

}  // namespace ramferry::migration
