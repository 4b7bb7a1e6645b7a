// SPDX-License-Identifier: MIT
#include <ramferry/error.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace ramferry {
namespace {

TEST(Error, SystemErrorsEqualTheirConditions) {
  const std::vector<std::pair<int, errc>> table = {
      {ECANCELED, errc::cancelled},
      {ETIMEDOUT, errc::timed_out},
      {ECONNRESET, errc::peer_gone},
      {EPIPE, errc::peer_gone},
      {ECONNREFUSED, errc::peer_gone},
      {EHOSTUNREACH, errc::peer_gone},
      {EPROTO, errc::protocol_mismatch},
      {EOPNOTSUPP, errc::unsupported},
      {EINVAL, errc::invalid_argument},
      {EISDIR, errc::invalid_argument},
      {ENOENT, errc::not_found},
      {ENOTDIR, errc::not_found},
      {EADDRNOTAVAIL, errc::not_found},
      {EADDRINUSE, errc::in_use},
      {EBUSY, errc::in_use},
      {EACCES, errc::permission},
      {EPERM, errc::permission},
      {ENOSPC, errc::no_space},
      {EDQUOT, errc::no_space},
      {EFBIG, errc::no_space},
      {EIO, errc::io},
      {ENOMEM, errc::io},
  };
  for (const auto& [number, condition] : table) {
    const Error error = fail_errno(number, "trying").value();
    EXPECT_TRUE(error.is(condition)) << error.message();
    EXPECT_EQ(error.code.value(), number) << "the precise code is kept";
    EXPECT_EQ(error.is(errc::peer_gone), condition == errc::peer_gone) << error.message();
  }
}

TEST(Error, AnIoErrorIsNoOtherCondition) {
  const Error error = fail_errno(EIO, "reading").value();
  for (int other = static_cast<int>(errc::cancelled); other < static_cast<int>(errc::io); ++other)
    EXPECT_FALSE(error.is(static_cast<errc>(other))) << other;
}

TEST(Error, AConditionIsOnlyItself) {
  for (int one = static_cast<int>(errc::cancelled); one <= static_cast<int>(errc::io); ++one)
    for (int other = static_cast<int>(errc::cancelled); other <= static_cast<int>(errc::io); ++other)
      EXPECT_EQ(fail(static_cast<errc>(one), "").value().is(static_cast<errc>(other)), one == other);
}

TEST(Error, EveryConditionHasWordsOfItsOwn) {
  std::set<std::string> words;
  for (int one = static_cast<int>(errc::cancelled); one <= static_cast<int>(errc::io); ++one)
    words.insert(make_error_code(static_cast<errc>(one)).message());
  EXPECT_EQ(words.size(), static_cast<std::size_t>(errc::io));
  EXPECT_EQ(words.count("unknown error"), 0U);
}

TEST(Error, SaysWhatWasDoneWhyAndWhatNext) {
  EXPECT_EQ(fail(errc::peer_gone, "connecting to tcp:h:1").value().message(),
            "connecting to tcp:h:1: the peer is gone");
  EXPECT_EQ(fail(errc::peer_gone, "connecting to tcp:h:1", "start the destination first").value().message(),
            "connecting to tcp:h:1: the peer is gone (start the destination first)");
}

TEST(Error, IsToldFromFurtherOut) {
  const Error inner = fail(errc::io, "reading", "look").value();
  const Error outer = within(inner, "restoring a checkpoint").value();
  EXPECT_EQ(outer.doing, "restoring a checkpoint: reading");
  EXPECT_EQ(outer.advice, "look");
  EXPECT_TRUE(outer.is(errc::io));
}

Result<int> half(int value) {
  if (value % 2 != 0) return fail(errc::invalid_argument, "halving");
  return value / 2;
}

Result<int> quarter(int value) {
  RAMFERRY_TRY_ASSIGN(const int once, half(value));
  RAMFERRY_TRY(half(once));
  return half(once);
}

TEST(Result, TryReturnsTheFirstError) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_FALSE(quarter(6).has_value());
  EXPECT_FALSE(quarter(3).has_value());
  EXPECT_EQ(quarter(3).error().doing, "halving");
}

}  // namespace
}  // namespace ramferry
