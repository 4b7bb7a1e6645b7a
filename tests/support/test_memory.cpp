// SPDX-License-Identifier: MIT
#include "support/test_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace ramferry::test {
namespace {

/// splitmix64: every value of `state` gives an unrelated word.
std::uint64_t mix(std::uint64_t state) noexcept {
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

std::uint64_t word_of(std::uint64_t seed, std::uint64_t index) noexcept {
  return mix(mix(seed + 0x9e3779b97f4a7c15ULL) + index * 0x9e3779b97f4a7c15ULL);
}

}  // namespace

TestMemory::TestMemory(std::size_t size) {
  void* at =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    std::perror("mapping test memory");
    std::abort();
  }
  ::madvise(at, size, MADV_NOHUGEPAGE);  // else one touched page makes 512 resident
  bytes_ = Bytes(static_cast<std::byte*>(at), size);
}

TestMemory::~TestMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

std::size_t resident_pages(ConstBytes mapping) {
  std::vector<unsigned char> present((mapping.size() + kPage - 1) / kPage);
  if (::mincore(const_cast<std::byte*>(mapping.data()), mapping.size(), present.data()) != 0) {
    std::perror("mincore");
    std::abort();
  }
  return static_cast<std::size_t>(
      std::count_if(present.begin(), present.end(), [](unsigned char page) { return (page & 1) != 0; }));
}

void fill_pattern(Bytes bytes, std::uint64_t seed) noexcept {
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_of(seed, at);
    std::memcpy(bytes.data() + at, &word, std::min(sizeof word, bytes.size() - at));
  }
}

bool has_pattern(ConstBytes bytes, std::uint64_t seed) noexcept {
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_of(seed, at);
    if (std::memcmp(bytes.data() + at, &word, std::min(sizeof word, bytes.size() - at)) != 0) return false;
  }
  return true;
}

bool is_all(ConstBytes bytes, std::byte value) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [value](std::byte each) { return each == value; });
}

unsigned repetitions(unsigned usual, unsigned thorough) noexcept {
  const char* wanted = std::getenv("RAMFERRY_LONG");
  return wanted != nullptr && std::string_view(wanted) == "1" ? thorough : usual;
}

}  // namespace ramferry::test
