// SPDX-License-Identifier: MIT
// The layout of a checkpoint file. docs/checkpoint-format.md is its description; keep them in step.
//
//   head, 4096 bytes   page slots of 4096 bytes each   metadata
#pragma once

#include <ramferry/checkpoint/checkpoint_file.hpp>

#include <array>
#include <cstdint>
#include <vector>

namespace ramferry::checkpoint::format {

inline constexpr std::string_view kMagic = "RAMFERRY";
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::uint64_t kHeadBytes = kPageBytes;
/// The metadata of a sane file is smaller; a damaged length must not make us allocate more.
inline constexpr std::uint64_t kMostMetadata = 1ULL << 36;
inline constexpr std::uint64_t kMostState = 1ULL << 30;

/// Where things are.
struct Outline {
  std::uint64_t slots = 0;
  std::uint64_t metadata_bytes = 0, metadata_sum = 0;
  std::uint64_t metadata_at() const noexcept { return kHeadBytes + slots * kPageBytes; }
};
std::array<std::byte, kHeadBytes> encode(const Outline& outline);
Result<Outline> decode_outline(ConstBytes head);

/// The metadata up to the index.
void append_head(WireWriter& out, const CheckpointHead& head);

}  // namespace ramferry::checkpoint::format
