// SPDX-License-Identifier: MIT
// Guest memory for benchmarks: mapped once, so that no measurement pays for the machine's fresh pages.
#pragma once

#include <ramferry/migration/ram_block.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace ramferry::bench {

inline constexpr std::uint64_t kPage = 4096;

class GuestMemory {
 public:
  enum class Kind { anonymous, memfd };

  GuestMemory(Kind kind, std::uint64_t bytes) {
    if (kind == Kind::memfd) {
      fd_ = memfd_create("ramferry-bench", MFD_CLOEXEC);
      if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) std::abort();
    }
    const int flags = kind == Kind::memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd_, 0);
    if (at == MAP_FAILED) std::abort();
    bytes_ = {static_cast<std::byte*>(at), bytes};
  }
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  ~GuestMemory() {
    munmap(bytes_.data(), bytes_.size());
    if (fd_ >= 0) close(fd_);
  }

  Bytes bytes() const noexcept { return bytes_; }
  std::uint64_t pages() const noexcept { return bytes_.size() / kPage; }
  void fill(int value) const { std::memset(bytes_.data(), value, bytes_.size()); }
  /// As a guest's store.
  void write(std::uint64_t page, int value) const {
    static_cast<volatile std::byte&>(bytes_[page * kPage]) = static_cast<std::byte>(value);
  }
  migration::RamLayout layout() const {
    migration::RamBlock block{.name = "ram", .host = bytes_};
    if (fd_ >= 0) block.backing = {.kind = migration::Backing::Kind::shared_fd, .fd = fd_};
    return migration::RamLayout::make({block}).value();
  }

 private:
  int fd_ = -1;
  Bytes bytes_;
};

}  // namespace ramferry::bench
