// SPDX-License-Identifier: MIT
// This program's operator new, which tests can make fail.
#include "failing_allocations.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

namespace {

thread_local unsigned allocations_left = 0;

void* allocate(std::size_t size) noexcept {
  if (allocations_left > 0 && --allocations_left == 0) return nullptr;
  return std::malloc(size == 0 ? 1 : size);
}

/// Not inlined: GCC would take it for a mistake to free what new returned.
[[gnu::noinline]] void release(void* memory) noexcept {
  std::free(memory);
}

void* allocate_or_throw(std::size_t size) {
  if (void* const memory = allocate(size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

// All of them: a sanitizer has its own for those that are left out, and finds that they do not match.
void* operator new(std::size_t size) {
  return allocate_or_throw(size);
}
void* operator new[](std::size_t size) {
  return allocate_or_throw(size);
}
void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return allocate(size);
}
void* operator new[](std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  return allocate(size);
}
void operator delete(void* memory) noexcept {
  release(memory);
}
void operator delete[](void* memory) noexcept {
  release(memory);
}
void operator delete(void* memory, std::size_t /*size*/) noexcept {
  release(memory);
}
void operator delete[](void* memory, std::size_t /*size*/) noexcept {
  release(memory);
}
void operator delete(void* memory, const std::nothrow_t& /*tag*/) noexcept {
  release(memory);
}
void operator delete[](void* memory, const std::nothrow_t& /*tag*/) noexcept {
  release(memory);
}

namespace ramferry::test {

void fail_allocation(unsigned which) noexcept {
  allocations_left = which;
}

namespace {

TEST(FailingAllocations, FailWhenTheyShould) {
  std::vector<std::vector<int>> all(3);
  fail_allocation(2);
  all[0].resize(1);
  EXPECT_THROW(all[1].resize(1), std::bad_alloc);
  all[2].resize(1);
}

}  // namespace
}  // namespace ramferry::test
