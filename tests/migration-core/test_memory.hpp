// SPDX-License-Identifier: MIT
// Mapped memory for tests, and layouts made of it.
#pragma once

#include <ramferry/migration/ram_block.hpp>
#include <ramferry/unique_fd.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::migration::test {

inline constexpr std::uint64_t kPage = 4096;

// Guest memory is written and read at the same time on purpose: "Clear before read" is why that is harmless.
#define RAMFERRY_RACES_ON_PURPOSE __attribute__((no_sanitize("thread")))

inline bool long_run() {
  return std::getenv("RAMFERRY_LONG") != nullptr;
}

/// Fresh, untouched memory; unmapped with the object.
class Memory {
 public:
  /// In small pages, also where the machine gives huge ones to everybody.
  static Memory anonymous(std::uint64_t bytes) {
    Memory memory(bytes, {}, MAP_PRIVATE | MAP_ANONYMOUS);
    madvise(memory.bytes_.data(), bytes, MADV_NOHUGEPAGE);
    return memory;
  }
  static Memory shared_anonymous(std::uint64_t bytes) {
    return Memory(bytes, {}, MAP_SHARED | MAP_ANONYMOUS);
  }
  static Memory memfd(std::uint64_t bytes, unsigned flags = 0) {
    UniqueFd fd(memfd_create("ramferry-test", MFD_CLOEXEC | flags));
    if (!fd || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) throw std::runtime_error("memfd_create");
    return Memory(bytes, std::move(fd), MAP_SHARED);
  }
  /// Not shared, though there is a file behind it.
  static Memory memfd_private(std::uint64_t bytes) {
    const Memory file = memfd(bytes);
    return Memory(bytes, UniqueFd(dup(file.fd())), MAP_PRIVATE);
  }
  /// Nothing if the machine has no free huge pages.
  static std::optional<Memory> huge(std::uint64_t bytes) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    if (at == MAP_FAILED) return std::nullopt;
    munmap(at, bytes);
    return Memory(bytes, {}, kFlags);
  }
  Memory(Memory&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), fd_(std::move(other.fd_)), shared_(other.shared_) {}
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
    if (shared_ && fd_) block.backing = {.kind = Backing::Kind::shared_fd, .fd = fd_.get()};
    return block;
  }
  RamLayout layout() const { return RamLayout::make({block()}).value(); }

 private:
  Memory(std::uint64_t bytes, UniqueFd fd, int flags)
      : fd_(std::move(fd)), shared_((flags & MAP_SHARED) != 0) {
    void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd_.get(), 0);
    if (at == MAP_FAILED) throw std::runtime_error("mmap");
    bytes_ = {static_cast<std::byte*>(at), bytes};
  }
  Bytes bytes_;
  UniqueFd fd_;
  bool shared_;
};

/// How much of the memory is in RAM, whoever put it there. Touches nothing.
inline std::uint64_t resident_bytes(Bytes memory) {
  std::vector<unsigned char> pages(memory.size() / kPage);
  if (mincore(memory.data(), memory.size(), pages.data()) != 0) throw std::runtime_error("mincore");
  return kPage *
         static_cast<std::uint64_t>(std::count_if(pages.begin(), pages.end(), [](auto p) { return p & 1; }));
}

}  // namespace ramferry::migration::test
