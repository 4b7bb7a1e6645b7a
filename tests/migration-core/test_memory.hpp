// SPDX-License-Identifier: MIT
// Mapped memory for tests, and layouts made of it.
#pragma once

#include <ramferry/migration/ram_block.hpp>
#include <ramferry/unique_fd.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <utility>
#include <vector>

namespace ramferry::migration::test {

inline constexpr std::uint64_t kPage = 4096;

inline bool long_run() {
  return std::getenv("RAMFERRY_LONG") != nullptr;
}

/// Fresh, untouched memory; unmapped with the object.
class Memory {
 public:
  static Memory anonymous(std::uint64_t bytes) { return Memory(bytes, {}, MAP_PRIVATE | MAP_ANONYMOUS); }
  static Memory shared_anonymous(std::uint64_t bytes) {
    return Memory(bytes, {}, MAP_SHARED | MAP_ANONYMOUS);
  }
  static Memory memfd(std::uint64_t bytes, unsigned flags = 0) {
    UniqueFd fd(memfd_create("ramferry-test", MFD_CLOEXEC | flags));
    if (!fd || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) throw std::runtime_error("memfd_create");
    return Memory(bytes, std::move(fd), MAP_SHARED);
  }
  /// Throws if the machine has no free huge pages.
  static Memory huge(std::uint64_t bytes) {
    return Memory(bytes, {}, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
  }
  Memory(Memory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})), fd_(std::move(other.fd_)) {}
  Memory& operator=(Memory&&) = delete;
  ~Memory() {
    if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
  }

  Bytes bytes() const noexcept { return bytes_; }
  Bytes page(std::uint64_t number, std::uint64_t page_bytes = kPage) const noexcept {
    return bytes_.subspan(number * page_bytes, page_bytes);
  }
  int fd() const noexcept { return fd_.get(); }
  RamBlock block(std::string name = "ram") const {
    RamBlock block{.name = std::move(name), .host = bytes_};
    if (fd_) block.backing = {.kind = Backing::Kind::shared_fd, .fd = fd_.get()};
    return block;
  }
  RamLayout layout() const { return RamLayout::make({block()}).value(); }

 private:
  Memory(std::uint64_t bytes, UniqueFd fd, int flags) : fd_(std::move(fd)) {
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd_.get(), 0);
    if (at == MAP_FAILED) throw std::runtime_error("mmap");
    bytes_ = {static_cast<std::byte*>(at), bytes};
  }
  Bytes bytes_;
  UniqueFd fd_;
};

}  // namespace ramferry::migration::test
