// SPDX-License-Identifier: MIT
#include "command.hpp"

#include <gtest/gtest.h>

namespace ramferry::cli {
namespace {

TEST(Said, IsAConditionThatAddsNoWords) {
  const Error error = said(errc::peer_failed, "migrate: there is no such scheme", "try tcp:").value();
  EXPECT_TRUE(error.is(errc::peer_failed));
  EXPECT_FALSE(error.is(errc::unsupported));
  EXPECT_EQ(error.message(), "migrate: there is no such scheme (try tcp:)");
  EXPECT_EQ(said(errc::io, "all is said").value().message(), "all is said");
}

}  // namespace
}  // namespace ramferry::cli
