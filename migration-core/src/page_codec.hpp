// SPDX-License-Identifier: MIT
// The encodings under which pages travel, and how stretches of memory are compressed piece by piece.
//
// A compressed placement covers up to kMostPieces pieces of kPieceBytes (the last may be shorter):
//
//   u32 length of each piece's bytes, then these bytes; a piece that is as long as what it stands for is
//   stored
//
// Pieces are compressed and decompressed independently of each other, so that several threads can.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/migration/page_coding.hpp>
#include <ramferry/slot.hpp>

#include <cstddef>
#include <span>
#include <vector>

namespace ramferry::migration::page_codec {

inline constexpr Encoding kCopy = 1;    ///< as they are, but a private copy
inline constexpr Encoding kXbzrle = 2;  ///< one page: changes to what the destination has
inline constexpr Encoding kZlib = 3, kZstd = 4;

inline constexpr std::size_t kPieceBytes = std::size_t{64} * 1024;
/// So that even stored ones fit into one placement.
inline constexpr std::size_t kMostPieces = 15;

constexpr Encoding encoding_of(CompressMethod method) noexcept {
  return method == CompressMethod::zstd ? kZstd : kZlib;
}

/// Compresses `from` into `into`, which is as large: the length, or 0 if that would not be shorter. `from` is
/// a private copy. Any thread.
std::size_t compress(const PageCoding& coding, ConstBytes from, Bytes into) noexcept;
/// Fills `into` exactly, or errc::protocol_mismatch. Any thread.
Result<> decompress(Encoding method, ConstBytes from, Bytes into);

/// The payload of a compressed placement.
void pack(std::span<const ConstBytes> pieces, std::vector<std::byte>& into);
/// The pieces of a payload that stands for `length` bytes; errc::protocol_mismatch if it does not add up.
Result<std::vector<ConstBytes>> unpack(ConstBytes payload, std::size_t length);

/// Guest memory that others may be writing to; see "Encoders work on a private copy" in docs/design-notes.md.
void copy_live(ConstBytes from, Bytes into) noexcept;

}  // namespace ramferry::migration::page_codec
