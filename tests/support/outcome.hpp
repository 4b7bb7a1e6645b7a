// SPDX-License-Identifier: MIT
// Expectations about a Result: that a call succeeds, or how it fails. A failure prints what the call said.
#pragma once

#include <ramferry/error.hpp>

#include <gtest/gtest.h>

#include <string>

namespace ramferry::test {

/// What a failed call says; "success" for one that did not fail.
template <class T>
std::string why(const Result<T>& result) {
  return result ? "success" : result.error().message();
}
template <class T>
bool failed_with(const Result<T>& result, errc condition) {
  return !result && result.error().is(condition);
}

}  // namespace ramferry::test

#define RAMFERRY_EXPECT_OK(expression)                                                           \
  do {                                                                                           \
    const auto& outcome_ = (expression);                                                         \
    EXPECT_TRUE(outcome_.has_value()) << #expression << ": " << ::ramferry::test::why(outcome_); \
  } while (false)
#define RAMFERRY_ASSERT_OK(expression)                                                           \
  do {                                                                                           \
    const auto& outcome_ = (expression);                                                         \
    ASSERT_TRUE(outcome_.has_value()) << #expression << ": " << ::ramferry::test::why(outcome_); \
  } while (false)
#define RAMFERRY_EXPECT_FAILS(condition, expression)                                                    \
  do {                                                                                                  \
    const auto& outcome_ = (expression);                                                                \
    EXPECT_TRUE(::ramferry::test::failed_with(outcome_, condition))                                     \
        << #expression << " should fail with " #condition ", not: " << ::ramferry::test::why(outcome_); \
  } while (false)
