// SPDX-License-Identifier: MIT
#include "bench/memory.hpp"

#include <ramferry/endpoint.hpp>

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace ramferry::cli {

Result<BenchMemory> BenchMemory::map(std::uint64_t bytes, bool touched) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    return fail(errc::no_space, "mapping " + format_size(bytes), "ask for less with --bytes");
  BenchMemory memory;
  memory.bytes_ = Bytes(static_cast<std::byte*>(at), bytes);
  madvise(at, bytes, MADV_DONTFORK);
  if (touched) std::memset(at, 0x5a, bytes);
  return memory;
}

BenchMemory::BenchMemory(BenchMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

BenchMemory& BenchMemory::operator=(BenchMemory&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

BenchMemory::~BenchMemory() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace ramferry::cli
