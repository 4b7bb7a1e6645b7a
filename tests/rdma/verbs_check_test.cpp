// SPDX-License-Identifier: MIT
#include "verbs_check.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace ramferry::rdma {
namespace {

TEST(VerbsCheck, AFullQueueIsToldByEitherSign) {
  EXPECT_EQ(posting_error(ENOMEM), std::errc::not_enough_memory);
  EXPECT_EQ(posting_error(-ENOMEM), std::errc::not_enough_memory);
  EXPECT_EQ(posting_error(EINVAL), std::errc::invalid_argument);
  EXPECT_FALSE(posting_error(0));
}

}  // namespace
}  // namespace ramferry::rdma
