// SPDX-License-Identifier: MIT
#include "posting_pool.hpp"

#include "failing_allocations.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <new>
#include <span>
#include <system_error>
#include <thread>
#include <vector>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 60s;
const std::error_code kFull = std::make_error_code(std::errc::not_enough_memory);

std::vector<WorkRequest> requests(std::uint64_t first, std::size_t count) {
  std::vector<WorkRequest> list(count);
  for (std::size_t i = 0; i < count; ++i) list[i].id = first + i;
  return list;
}

template <class Condition>
bool comes_true(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

void ignore(std::error_code /*error*/) {}

TEST(PostingPool, KeepsTheOrderOfEachQueue) {
  constexpr std::uint64_t kLists = 200, kEach = 5;
  PostingPool pool(3, ignore);
  struct Seen {
    std::vector<std::uint64_t> ids;
    std::atomic<bool> inside{false};
  };
  std::array<Seen, 4> seen;
  std::atomic<bool> overlapped{false};
  {
    std::vector<std::unique_ptr<PostingQueue>> queues;
    queues.reserve(seen.size());
    for (Seen& each : seen)
      queues.push_back(std::make_unique<PostingQueue>(pool, [&](std::span<const WorkRequest> list) {
        if (each.inside.exchange(true)) overlapped = true;
        for (const WorkRequest& request : list) each.ids.push_back(request.id);
        std::this_thread::yield();
        each.inside = false;
        return Posted{list.size(), {}};
      }));
    for (std::uint64_t i = 0; i < kLists; ++i) {
      for (const auto& queue : queues) ASSERT_TRUE(queue->add(requests(i * kEach, kEach)));
    }
    for (const auto& queue : queues) EXPECT_TRUE(comes_true([&] { return queue->is_idle(); }));
  }
  EXPECT_FALSE(overlapped);
  for (const Seen& each : seen) {
    ASSERT_EQ(each.ids.size(), kLists * kEach);
    for (std::uint64_t i = 0; i < each.ids.size(); ++i) EXPECT_EQ(each.ids[i], i);
  }
}

TEST(PostingPool, PostsOneListOfAQueueAtATime) {
  PostingPool pool(2, ignore);
  std::promise<void> began;
  std::atomic<bool> go{false};
  std::atomic<int> calls{0};
  PostingQueue slow(pool, [&](std::span<const WorkRequest> list) {
    if (++calls == 1) began.set_value();
    EXPECT_TRUE(comes_true([&] { return go.load(); }));
    return Posted{list.size(), {}};
  });
  PostingQueue other(pool, [](std::span<const WorkRequest> list) { return Posted{list.size(), {}}; });
  ASSERT_TRUE(slow.add(requests(0, 1)));
  ASSERT_EQ(began.get_future().wait_for(kPatience), std::future_status::ready);
  ASSERT_TRUE(slow.add(requests(1, 1)));
  ASSERT_TRUE(other.add(requests(0, 1)));  // behind what was added before, if any thread may take that
  const bool other_done = comes_true([&] { return other.is_idle() || calls > 1; });
  EXPECT_TRUE(other_done);
  EXPECT_EQ(calls, 1);
  go = true;
  EXPECT_TRUE(comes_true([&] { return slow.is_idle(); }));
  EXPECT_EQ(calls, 2);
}

TEST(PostingPool, PostsToTwoQueuesAtTheSameTime) {
  PostingPool pool(2, ignore);
  std::promise<void> first_began, second_began;
  std::shared_future<void> first = first_began.get_future(), second = second_began.get_future();
  std::atomic<int> met{0};
  const auto meet = [&](std::promise<void>& mine, const std::shared_future<void>& others) {
    mine.set_value();
    if (others.wait_for(kPatience) == std::future_status::ready) ++met;
  };
  PostingQueue one(pool, [&](std::span<const WorkRequest> list) {
    meet(first_began, second);
    return Posted{list.size(), {}};
  });
  PostingQueue other(pool, [&](std::span<const WorkRequest> list) {
    meet(second_began, first);
    return Posted{list.size(), {}};
  });
  ASSERT_TRUE(one.add(requests(0, 1)));
  ASSERT_TRUE(other.add(requests(0, 1)));
  EXPECT_TRUE(comes_true([&] { return one.is_idle() && other.is_idle(); }));
  EXPECT_EQ(met, 2);
}

TEST(PostingPool, TriesTheRestAgainWhileTheDeviceIsFull) {
  std::atomic<bool> failed{false};
  PostingPool pool(1, [&](std::error_code) { failed = true; });
  std::vector<std::uint64_t> ids;
  int calls = 0;
  PostingQueue queue(pool, [&](std::span<const WorkRequest> list) {
    if (++calls % 2 == 1) return Posted{0, kFull};
    ids.push_back(list.front().id);
    return list.size() == 1 ? Posted{1, {}} : Posted{1, kFull};
  });
  ASSERT_TRUE(queue.add(requests(0, 3)));
  ASSERT_TRUE(comes_true([&] { return queue.is_idle(); }));
  EXPECT_EQ(ids, (std::vector<std::uint64_t>{0, 1, 2}));
  EXPECT_FALSE(failed);
}

TEST(PostingPool, PostsNothingBehindALossAndTellsOfIt) {
  std::atomic<int> value{0}, told{0};
  PostingPool pool(1, [&](std::error_code error) {
    value = error.value();
    ++told;
  });
  std::atomic<bool> go{false};
  std::atomic<int> calls{0};
  PostingQueue queue(pool, [&](std::span<const WorkRequest>) {
    ++calls;
    EXPECT_TRUE(comes_true([&] { return go.load(); }));
    return Posted{1, std::make_error_code(std::errc::invalid_argument)};
  });
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(queue.add(requests(2 * i, 2)));
  go = true;
  EXPECT_TRUE(comes_true([&] { return told > 0; }));
  EXPECT_EQ(value, EINVAL);
  const auto late = queue.add(requests(6, 2));
  ASSERT_TRUE(late);
  EXPECT_EQ(late->count, 0U);
  EXPECT_EQ(late->error, std::errc::invalid_argument);
  EXPECT_FALSE(queue.is_idle()) << "then something would be posted past the loss";

  PostingQueue other(pool, [](std::span<const WorkRequest> list) { return Posted{list.size(), {}}; });
  ASSERT_TRUE(other.add(requests(0, 1)));
  EXPECT_TRUE(comes_true([&] { return other.is_idle(); })) << "only the one queue is broken";
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(told, 1);
}

TEST(PostingPool, WhatCouldNotBeAddedForWantOfMemoryBlocksNothing) {
  PostingPool pool(1, ignore);
  std::atomic<std::uint64_t> posted{0};
  PostingQueue queue(pool, [&](std::span<const WorkRequest> list) {
    ++posted;
    return Posted{list.size(), {}};
  });
  const std::vector<WorkRequest> list = requests(0, 1);
  ASSERT_TRUE(queue.add(list));  // the thread is there from now on
  std::uint64_t added = 1;
  // Each allocation of the call fails once, wherever the containers' blocks happen to end.
  for (int i = 0; i < 200 && !::testing::Test::HasFailure(); ++i) {
    ASSERT_TRUE(comes_true([&] { return posted == added && queue.is_idle(); }));
    for (unsigned failing = 1;; ++failing) {
      test::fail_allocation(failing);
      bool is_added = false;
      try {
        is_added = queue.add(list).has_value();
      } catch (const std::bad_alloc&) {
      }
      test::fail_allocation(0);
      if (is_added) break;
    }
    ++added;
  }
}

TEST(PostingPool, ForgetsAQueueThatGoesAndIsNoLongerAtItThen) {
  PostingPool pool(2, ignore);
  std::promise<void> began;
  std::atomic<bool> go{false}, gone{false}, late{false};
  std::atomic<int> calls{0};
  auto queue = std::make_unique<PostingQueue>(pool, [&](std::span<const WorkRequest> list) {
    if (++calls == 1) began.set_value();
    while (!go) std::this_thread::yield();
    if (gone) late = true;
    return Posted{list.size(), {}};
  });
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(queue->add(requests(i, 1)));
  ASSERT_EQ(began.get_future().wait_for(kPatience), std::future_status::ready);
  std::atomic<bool> going{false};
  std::thread destroyer([&] {
    going = true;
    queue.reset();
    gone = true;
  });
  EXPECT_TRUE(comes_true([&] { return going.load(); }));
  std::this_thread::sleep_for(20ms);  // long enough to see it gone too early; a slow machine only sees less
  EXPECT_FALSE(gone);
  go = true;
  destroyer.join();
  EXPECT_FALSE(late);
  EXPECT_LE(calls, 10);
}

TEST(PostingPool, ForgetsAQueueWhoseDeviceStaysFull) {
  PostingPool pool(1, ignore);
  std::promise<void> began;
  int calls = 0;
  auto stuck = std::make_unique<PostingQueue>(pool, [&](std::span<const WorkRequest>) {
    if (++calls == 1) began.set_value();
    return Posted{0, kFull};
  });
  ASSERT_TRUE(stuck->add(requests(0, 1)));
  ASSERT_EQ(began.get_future().wait_for(kPatience), std::future_status::ready);
  stuck.reset();
  PostingQueue next(pool, [](std::span<const WorkRequest> list) { return Posted{list.size(), {}}; });
  ASSERT_TRUE(next.add(requests(0, 1)));
  EXPECT_TRUE(comes_true([&] { return next.is_idle(); }));
}

}  // namespace
}  // namespace ramferry::rdma
