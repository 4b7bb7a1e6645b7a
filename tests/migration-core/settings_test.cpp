// SPDX-License-Identifier: MIT
#include <ramferry/migration/settings.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ramferry::migration {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class MigrationParametersTest : public testing::Test {
 protected:
  MigrationParametersTest() {
    parameters_.add({.name = "limit", .value = 300, .high = 2000, .unit = "milliseconds"});
    parameters_.add({.name = "fixed", .value = false, .settable = false});
    parameters_.when_set([this] { ++sets_; });
  }
  std::string refusal(const json& values) {
    const json before = parameters_.all();
    const auto set = parameters_.set(values);
    EXPECT_EQ(parameters_.all(), before) << "a refused set changed something";
    return set ? "" : set.error().message();
  }
  MigrationParameters parameters_;
  int sets_ = 0;
};

TEST_F(MigrationParametersTest, SetsWithinTheRange) {
  ASSERT_TRUE(parameters_.set({{"limit", 2000}, {"fixed", false}}));
  EXPECT_EQ(parameters_.integer("limit"), 2000);
  EXPECT_EQ(sets_, 1);
}

TEST_F(MigrationParametersTest, RefusesAndChangesNothing) {
  EXPECT_THAT(refusal({{"limit", 2001}}),
              HasSubstr("Parameter 'limit' expects an integer in the range of 0 to 2000"));
  EXPECT_THAT(refusal({{"limit", -1}}), HasSubstr("range"));
  EXPECT_THAT(refusal({{"limit", 18446744073709551615u}}), HasSubstr("range"));
  EXPECT_THAT(refusal({{"limit", "5"}}), HasSubstr("Invalid parameter type for 'limit', expected: integer"));
  EXPECT_THAT(refusal({{"limit", 1.5}}), HasSubstr("expected: integer"));
  EXPECT_THAT(refusal({{"limit", 5}, {"nosuch", 1}}), HasSubstr("Parameter 'nosuch' is unexpected"));
  EXPECT_THAT(refusal({{"fixed", true}}), HasSubstr("'fixed' cannot be changed"));
  EXPECT_EQ(sets_, 0);
}

TEST(MigrationCapabilities, SetsAllOrNone) {
  MigrationCapabilities capabilities;
  capabilities.add("events");
  capabilities.add("x-colo", false, false);
  const auto one = [](const char* name, bool on) { return json{{"capability", name}, {"state", on}}; };
  ASSERT_TRUE(capabilities.set({one("events", true), one("x-colo", false)}));
  EXPECT_TRUE(capabilities.on("events"));
  EXPECT_FALSE(capabilities.set({one("events", false), one("x-colo", true)}));
  EXPECT_FALSE(capabilities.set({one("events", false), one("nosuch", true)}));
  EXPECT_FALSE(capabilities.set({one("events", false), {{"capability", "events"}}}));
  EXPECT_FALSE(capabilities.set({one("events", false), 5}));
  EXPECT_TRUE(capabilities.on("events"));
}

}  // namespace
}  // namespace ramferry::migration
