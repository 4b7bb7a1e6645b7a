// SPDX-License-Identifier: MIT
// Page-aligned memory of a ring that keeps its address, and the counting of what is in it.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/channel.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace ramferry::tunnel {

/// Anonymous memory, zeroed, unmapped when dropped.
class RingMemory {
 public:
  static Result<RingMemory> make(std::size_t bytes) {
    void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return fail_errno(errno, "mapping a ring of " + std::to_string(bytes) + " bytes");
    return RingMemory(Bytes(static_cast<std::byte*>(at), bytes));
  }
  RingMemory(RingMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  RingMemory& operator=(RingMemory&&) = delete;
  ~RingMemory() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }
  Bytes bytes() const noexcept { return bytes_; }
  /// The longest stretch without a wrap from position `at` of at most `most` bytes.
  Bytes piece(std::uint64_t at, std::uint64_t most) const noexcept {
    const std::uint64_t offset = at % bytes_.size();
    return bytes_.subspan(offset, std::min<std::uint64_t>(most, bytes_.size() - offset));
  }

 private:
  explicit RingMemory(Bytes bytes) noexcept : bytes_(bytes) {}
  Bytes bytes_;
};

}  // namespace ramferry::tunnel
