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

class StandardSettings : public testing::Test {
 protected:
  StandardSettings() { add_standard_settings(parameters_, capabilities_); }
  std::string refusal(const char* name, const json& value) {
    const auto set = parameters_.set({{name, value}});
    return set ? "" : set.error().message();
  }
  MigrationParameters parameters_;
  MigrationCapabilities capabilities_;
};

TEST_F(StandardSettings, HaveTheDefaultsOfTheirTable) {
  const json all = parameters_.all();
  EXPECT_EQ(all["compress-level"], 1);
  EXPECT_EQ(all["compress-threads"], 8);
  EXPECT_EQ(all["decompress-threads"], 2);
  EXPECT_EQ(all["max-bandwidth"], 0);
  EXPECT_EQ(all["downtime-limit"], 300);
  EXPECT_EQ(all["xbzrle-cache-size"], 64 << 20);
  EXPECT_FALSE(capabilities_.on("xbzrle"));
}

TEST_F(StandardSettings, ErrorsNameParameterAndRange) {
  EXPECT_THAT(refusal("compress-level", 10),
              HasSubstr("'compress-level' expects an integer in the range of 0 to 9"));
  EXPECT_THAT(refusal("compress-threads", 0), HasSubstr("1 to 255"));
  EXPECT_THAT(refusal("decompress-threads", 256), HasSubstr("1 to 255"));
  EXPECT_THAT(refusal("cpu-throttle-initial", 100), HasSubstr("1 to 99"));
  EXPECT_THAT(refusal("compress-method", "lzma"), HasSubstr("does not accept value 'lzma'"));
  EXPECT_THAT(refusal("multifd-channels", 3), HasSubstr("cannot be changed here"));
  EXPECT_EQ(refusal("multifd-channels", 2), "") << "its default may be set";
}

TEST_F(StandardSettings, RulesHoldAcrossParameters) {
  EXPECT_THAT(refusal("xbzrle-cache-size", 5000), HasSubstr("power of two"));
  EXPECT_EQ(refusal("xbzrle-cache-size", 8192), "");
  EXPECT_THAT(refusal("max-cpu-throttle", 19), HasSubstr("cpu-throttle-initial to 99"));
  ASSERT_TRUE(parameters_.set({{"max-cpu-throttle", 10}, {"cpu-throttle-initial", 5}}));
  EXPECT_THAT(refusal("cpu-throttle-initial", 11), HasSubstr("max-cpu-throttle"));
  EXPECT_EQ(parameters_.integer("cpu-throttle-initial"), 5);
}

TEST_F(StandardSettings, WhatOnlyQemuHasStaysOff) {
  for (const char* name : {"multifd", "postcopy-ram", "x-colo"}) {
    EXPECT_FALSE(capabilities_.set({{{"capability", name}, {"state", true}}})) << name;
    EXPECT_TRUE(capabilities_.set({{{"capability", name}, {"state", false}}})) << name;
  }
}

TEST(MigrationCapabilities, KeepWhatWasAddedFirst) {
  MigrationCapabilities capabilities;
  capabilities.add("pin");
  capabilities.add("pin", false, false);
  EXPECT_TRUE(capabilities.set({{{"capability", "pin"}, {"state", true}}}));
  EXPECT_EQ(capabilities.all().size(), 1u);
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
