// SPDX-License-Identifier: MIT
#include <ramferry/migration/status.hpp>

#include <gtest/gtest.h>

#include <set>

namespace ramferry::migration {
namespace {

constexpr State kAll[] = {State::none,      State::setup,  State::active,     State::device,
                          State::completed, State::failed, State::cancelling, State::cancelled};

TEST(State, FollowsTheDiagramAndNothingElse) {
  using enum State;
  const std::set<std::pair<State, State>> diagram = {
      {none, setup},        {setup, active},      {active, device},        {device, completed},
      {setup, failed},      {active, failed},     {device, failed},        {setup, cancelling},
      {active, cancelling}, {device, cancelling}, {cancelling, cancelled}, {cancelling, completed},
  };
  for (const State from : kAll) {
    for (const State to : kAll)
      EXPECT_EQ(may_follow(from, to), diagram.count({from, to}) == 1)
          << to_string(from) << " -> " << to_string(to);
  }
}

TEST(State, HasQemusNames) {
  std::set<std::string_view> names;
  for (const State state : kAll) names.insert(to_string(state));
  EXPECT_EQ(names, (std::set<std::string_view>{"none", "setup", "active", "device", "completed", "failed",
                                               "cancelling", "cancelled"}));
}

}  // namespace
}  // namespace ramferry::migration
