// SPDX-License-Identifier: MIT
#include "support/memory_set.hpp"

#include <gtest/gtest.h>

#include <array>

namespace ramferry::test {
namespace {

class MemorySetTest : public ::testing::Test {
 protected:
  ConstBytes part(std::size_t offset, std::size_t length) const {
    return ConstBytes(memory_).subspan(offset, length);
  }
  std::array<std::byte, 100> memory_{};
  MemorySet set_;
};

TEST_F(MemorySetTest, ContainsWhatWasAddedAndItsParts) {
  EXPECT_FALSE(set_.contains(part(10, 1)));
  set_.add(part(10, 20));
  EXPECT_TRUE(set_.contains(part(10, 20)));
  EXPECT_TRUE(set_.contains(part(29, 1)));
  EXPECT_FALSE(set_.contains(part(9, 2)));
  EXPECT_FALSE(set_.contains(part(29, 2)));
  EXPECT_FALSE(set_.contains(part(30, 1)));
}

TEST_F(MemorySetTest, JoinsWhatTouchesOrOverlaps) {
  set_.add(part(10, 10));
  set_.add(part(40, 10));
  set_.add(part(60, 10));
  EXPECT_FALSE(set_.contains(part(10, 40)));
  set_.add(part(20, 20));  // fills the gap exactly
  EXPECT_TRUE(set_.contains(part(10, 40)));
  set_.add(part(45, 20));  // overlaps at both ends
  EXPECT_TRUE(set_.contains(part(10, 60)));
  set_.add(part(0, 100));
  EXPECT_TRUE(set_.contains(part(0, 100)));
  set_.add(part(50, 1));
  EXPECT_TRUE(set_.contains(part(0, 100)));
}

}  // namespace
}  // namespace ramferry::test
