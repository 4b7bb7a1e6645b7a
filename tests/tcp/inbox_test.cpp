// SPDX-License-Identifier: MIT
#include "../../tcp/src/inbox.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <random>
#include <string>

namespace ramferry::tcp {
namespace {

void put(Inbox& inbox, std::string_view text, Epoch after) {
  std::size_t done = 0;
  for (const Bytes piece : inbox.free(text.size())) {
    if (!piece.empty()) std::memcpy(piece.data(), text.data() + done, piece.size());
    done += piece.size();
  }
  ASSERT_EQ(done, text.size());
  inbox.add(text.size(), after);
}

std::string take(Inbox& inbox, Epoch passed, std::size_t most = 1000) {
  std::string text;
  for (const ConstBytes piece : inbox.readable(passed, most))
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  inbox.take(text.size());
  return text;
}

TEST(Inbox, GivesBytesInOrderAroundItsEnd) {
  Inbox inbox(8);
  put(inbox, "abcdef", 0);
  EXPECT_EQ(take(inbox, 0, 4), "abcd");
  put(inbox, "ghijkl", 0);
  EXPECT_EQ(inbox.free(1)[0].size(), 0U);
  EXPECT_EQ(take(inbox, 0), "efghijkl");
  EXPECT_TRUE(inbox.empty());
}

TEST(Inbox, HoldsBytesBackUntilTheirFenceIsPassed) {
  Inbox inbox(100);
  put(inbox, "a", 0);
  put(inbox, "b", 1);
  put(inbox, "c", 1);
  put(inbox, "d", 3);
  EXPECT_EQ(take(inbox, 0), "a");
  EXPECT_EQ(take(inbox, 0), "");
  EXPECT_EQ(take(inbox, 2), "bc");
  EXPECT_FALSE(inbox.empty());
  EXPECT_EQ(take(inbox, 3), "d");
}

TEST(Inbox, IsCrowdedByFencesAndNoLongerOnceTheyArePassed) {
  Inbox inbox(Inbox::kMostBarriers + 1);
  for (Epoch epoch = 1; epoch <= Inbox::kMostBarriers; ++epoch) {
    EXPECT_FALSE(inbox.crowded(0));
    put(inbox, "x", epoch);
  }
  EXPECT_TRUE(inbox.crowded(0));
  EXPECT_FALSE(inbox.crowded(1));
}

TEST(Inbox, MatchesASimpleModel) {
  std::mt19937_64 random(1);
  Inbox inbox(64);
  std::deque<std::pair<char, Epoch>> model;
  Epoch newest = 0, passed = 0;
  for (int step = 0; step < 20000; ++step) {
    newest += random() % 3 == 0;
    if (passed < newest && random() % 2 == 0) ++passed;
    const std::string text(random() % 9 + 1, static_cast<char>('a' + step % 26));
    if (text.size() <= 64 - model.size()) {
      put(inbox, text, newest);
      for (const char each : text) model.emplace_back(each, newest);
    } else {
      EXPECT_TRUE(inbox.free(text.size())[0].empty());
    }
    const std::size_t most = random() % 12;
    std::string expected;
    while (!model.empty() && model.front().second <= passed && expected.size() < most) {
      expected += model.front().first;
      model.pop_front();
    }
    ASSERT_EQ(take(inbox, passed, most), expected) << step;
  }
}

}  // namespace
}  // namespace ramferry::tcp
