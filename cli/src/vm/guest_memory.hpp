// SPDX-License-Identifier: MIT
// The reference VM's RAM: mapped blocks, blank and untouched until somebody writes.
#pragma once

#include <ramferry/error.hpp>
#include <ramferry/migration/ram_block.hpp>
#include <ramferry/unique_fd.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace ramferry::vm {

/// The unit of tracking, of the page table and of the sweep.
inline constexpr std::uint64_t kPageBytes = 4096;

struct BlockSpec {
  std::string name;
  std::uint64_t bytes = 0;  ///< a multiple of kPageBytes
};

/// Owns the mappings behind a RamLayout. Never uses huge pages, so that a page nobody touched stays untouched
/// whatever happens to its neighbours; children of this process do not inherit the mappings.
class GuestMemory {
 public:
  static Result<GuestMemory> make(const std::vector<BlockSpec>& blocks, migration::Backing::Kind backing);
  GuestMemory(GuestMemory&&) noexcept = default;
  GuestMemory& operator=(GuestMemory&&) = delete;
  ~GuestMemory();

  /// Has the kernel allocate every page, still all zeros, so that first touches are not part of what is
  /// measured. From then on touched() says nothing about writers.
  Result<> prefault();

  const migration::RamLayout& layout() const noexcept { return layout_; }
  /// One page of a block.
  Bytes page(std::uint32_t block, std::uint64_t index) const noexcept {
    return layout_[block].host.subspan(index * kPageBytes, kPageBytes);
  }
  /// Whether the kernel holds (or has swapped out) anything for each of `count` pages from `first` on; reads
  /// none of them. All true where the kernel does not tell.
  std::vector<bool> touched(std::uint32_t block, std::uint64_t first, std::uint64_t count) const;

 private:
  struct Mapping {
    Bytes memory;
    UniqueFd fd;
  };
  explicit GuestMemory(std::vector<Mapping> mappings) noexcept : mappings_(std::move(mappings)) {}
  static Result<Mapping> map(const BlockSpec& spec, migration::Backing::Kind backing);

  std::vector<Mapping> mappings_;
  migration::RamLayout layout_;
  UniqueFd pagemap_;
};

}  // namespace ramferry::vm
