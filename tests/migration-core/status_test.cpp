// SPDX-License-Identifier: MIT
#include "status_board.hpp"

#include <ramferry/migration/status.hpp>

#include <gtest/gtest.h>

#include <set>
#include <thread>

namespace ramferry::migration {
namespace {

constexpr State kAll[] = {State::none,           State::setup,      State::active,
                          State::pre_switchover, State::device,     State::completed,
                          State::failed,         State::cancelling, State::cancelled};

TEST(State, FollowsTheDiagramAndNothingElse) {
  using enum State;
  const std::set<std::pair<State, State>> diagram = {
      {none, setup},
      {setup, active},
      {active, device},
      {active, pre_switchover},
      {pre_switchover, device},
      {device, completed},
      {setup, failed},
      {active, failed},
      {pre_switchover, failed},
      {device, failed},
      {setup, cancelling},
      {active, cancelling},
      {pre_switchover, cancelling},
      {device, cancelling},
      {cancelling, cancelled},
      {cancelling, completed},
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
  EXPECT_EQ(names, (std::set<std::string_view>{"none", "setup", "active", "pre-switchover", "device",
                                               "completed", "failed", "cancelling", "cancelled"}));
}

TEST(State, IsInSetupFinishedOrFailed) {
  using enum State;
  for (const State state : kAll) {
    EXPECT_EQ(is_in_setup(state), state == setup) << to_string(state);
    EXPECT_EQ(is_finished(state), state == completed) << to_string(state);
    EXPECT_EQ(has_failed(state), state == failed || state == cancelled) << to_string(state);
  }
}

TEST(StatusBoard, TellsOfEachChangeInItsOrderWhoeverMakesIt) {
  struct Heard final : Observer {
    void on_state(State from, State to) noexcept override {
      if (to == State::cancelling) std::this_thread::yield();  // time for the other thread to overtake
      EXPECT_EQ(from, newest);
      newest = to;
    }
    State newest = State::none;
  };
  SystemClock clock;
  NullLog log;
  for (int i = 0; i < 500; ++i) {
    Heard heard;
    StatusBoard board(clock, log, false);
    board.observe(heard);
    board.start("tcp:a:1");
    ASSERT_TRUE(board.advance(State::setup));
    std::thread canceller([&] { EXPECT_TRUE(board.advance(State::cancelling)); });
    while (!board.advance(State::cancelled)) std::this_thread::yield();
    canceller.join();
    EXPECT_EQ(heard.newest, State::cancelled);
    EXPECT_TRUE(board.snapshot().cancel_time);
  }
}

}  // namespace
}  // namespace ramferry::migration
