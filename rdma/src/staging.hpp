// SPDX-License-Identifier: MIT
// A small registered ring for what cannot be written from where it is: memory that was never lent, or that
// may not be registered again. What goes through it is copied, and counted.
#pragma once

#include "core.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

namespace ramferry::rdma {

class StagingRing {
 public:
  static constexpr std::size_t kPieceBytes = 256 << 10;

  explicit StagingRing(std::uint64_t bytes) noexcept
      : pieces_(std::max<std::size_t>(1, bytes / kPieceBytes)) {}
  /// Registers the ring if that has not happened; without the lock.
  Result<> prepare(Core& core) {
    if (region_) return {};
    memory_.resize(pieces_ * kPieceBytes);
    RAMFERRY_TRY_ASSIGN(region_, core.pin(memory_, Rights::read));
    for (std::size_t i = 0; i < pieces_; ++i) free_.push_back(i);
    return {};
  }
  bool is_ready() const noexcept { return region_ != nullptr; }
  std::uint32_t local_key() const noexcept { return region_->local_key(); }

  std::optional<std::size_t> take() noexcept {
    if (free_.empty()) return std::nullopt;
    const std::size_t piece = free_.back();
    free_.pop_back();
    return piece;
  }
  void give_back(std::size_t piece) { free_.push_back(piece); }
  bool has_free() const noexcept { return !free_.empty(); }
  Bytes piece(std::size_t index) noexcept { return Bytes(memory_).subspan(index * kPieceBytes, kPieceBytes); }

 private:
  const std::size_t pieces_;
  std::vector<std::byte> memory_;
  std::unique_ptr<PinnedRegion> region_;
  std::vector<std::size_t> free_;
};

}  // namespace ramferry::rdma
