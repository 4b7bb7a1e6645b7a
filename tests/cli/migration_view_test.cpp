// SPDX-License-Identifier: MIT
#include "migration_view.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ramferry::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

/// A migration of 1 GiB that could go at 2 GiB/s and is held to less.
json looked_at(double seconds, double transferred) {
  return {
      {"status", "active"},
      {"ram", {{"total", 1 << 30}, {"remaining", 1 << 29}, {"transferred", transferred}, {"mbps", 17180}}},
      {"x-ramferry", {{"total-seconds", seconds}, {"bytes-per-second", 2147483648.0}}}};
}

TEST(TransferRate, IsWhatWentFromOneLookToTheNext) {
  TransferRate rate;
  EXPECT_EQ(rate.look(looked_at(0, 0)), 0);
  EXPECT_DOUBLE_EQ(rate.look(looked_at(0.2, 1e6)), 5e6) << "the average at first";
  EXPECT_DOUBLE_EQ(rate.look(looked_at(1, 5e6)), 5e6);
  EXPECT_DOUBLE_EQ(rate.look(looked_at(2, 25e6)), 20e6);
  EXPECT_DOUBLE_EQ(rate.look(looked_at(2.1, 25e6)), 20e6) << "too soon for another";
  EXPECT_DOUBLE_EQ(rate.look(looked_at(4, 25e6)), 0) << "stuck";
}

TEST(TransferRate, BeginsAnewWithAnotherMigration) {
  TransferRate rate;
  rate.look(looked_at(10, 500e6));
  EXPECT_DOUBLE_EQ(rate.look(looked_at(1, 2e6)), 2e6);
}

TEST(TransferRate, TakesAQemusClock) {
  TransferRate rate;
  EXPECT_DOUBLE_EQ(rate.look({{"total-time", 2000}, {"ram", {{"transferred", 8e6}}}}), 4e6);
}

TEST(ProgressText, ShowsWhatGoesAndNotWhatTheLinkCouldDo) {
  EXPECT_THAT(progress_text(looked_at(4, 40 << 20)), HasSubstr(" 10 MiB/s  512 MiB left"));
  EXPECT_THAT(progress_text(looked_at(4, 40 << 20), 5 << 20), HasSubstr(" 5 MiB/s  512 MiB left"));
}

}  // namespace
}  // namespace ramferry::cli
