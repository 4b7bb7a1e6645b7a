// SPDX-License-Identifier: MIT
#include <ramferry/migration/section.hpp>

#include <gtest/gtest.h>

namespace ramferry::migration {
namespace {

class Named final : public SectionHandler {
 public:
  explicit Named(std::string name, std::uint32_t instance = 0) : id_{std::move(name), instance, 1} {}
  SectionId id() const override { return id_; }
  Result<> finish(SectionWriter&) override { return {}; }
  Result<> load(SectionReader&, std::uint32_t, SectionPart) override { return {}; }

 private:
  SectionId id_;
};

TEST(SectionRegistry, KeepsTheOrderOfAdding) {
  SectionRegistry registry;
  Named b("b"), a("a");
  const auto first = registry.add(b);
  const auto second = registry.add(a);
  ASSERT_TRUE(first && second);
  ASSERT_EQ(registry.in_order().size(), 2u);
  EXPECT_EQ(registry.in_order()[0], &b);
  EXPECT_EQ(registry.in_order()[1], &a);
}

TEST(SectionRegistry, TellsInstancesApartAndRefusesTheSameTwice) {
  SectionRegistry registry;
  Named zero("disk", 0), one("disk", 1), again("disk", 1);
  const auto first = registry.add(zero);
  const auto second = registry.add(one);
  const auto third = registry.add(again);
  ASSERT_TRUE(first && second);
  ASSERT_FALSE(third);
  EXPECT_TRUE(third.error().is(errc::in_use));
  EXPECT_NE(third.error().message().find("'disk' instance 1"), std::string::npos);
  EXPECT_EQ(registry.find("disk", 1), &one);
  EXPECT_EQ(registry.find("disk", 2), nullptr);
}

TEST(SectionRegistry, ForgetsAHandlerWhoseRegistrationIsDropped) {
  SectionRegistry registry;
  Named a("a");
  {
    auto registration = registry.add(a);
    ASSERT_TRUE(registration);
    const SectionRegistry::Registration moved = std::move(*registration);
    EXPECT_EQ(registry.find("a", 0), &a);
  }
  EXPECT_EQ(registry.find("a", 0), nullptr);
}

TEST(SectionRegistry, TakesNoNewSectionDuringAMigration) {
  SectionRegistry registry;
  Named a("a");
  {
    const SectionRegistry::Hold hold(registry);
    const auto refused = registry.add(a);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(errc::wrong_state));
  }
  EXPECT_TRUE(registry.add(a));
}

TEST(SectionRegistry, RefusesNamesThatDoNotFitTheWire) {
  SectionRegistry registry;
  Named none(""), large(std::string(256, 'x'));
  EXPECT_FALSE(registry.add(none));
  EXPECT_FALSE(registry.add(large));
}

}  // namespace
}  // namespace ramferry::migration
