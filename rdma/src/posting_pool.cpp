// SPDX-License-Identifier: MIT
#include "posting_pool.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace ramferry::rdma {

PostingPool::PostingPool(unsigned threads, std::function<void(std::error_code)> failed)
    : most_threads_(threads), failed_(std::move(failed)) {}

PostingPool::~PostingPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& each : threads_) each.join();
}

/// With the lock held. Some are enough.
bool PostingPool::start_threads() {
  try {
    while (threads_.size() < most_threads_) threads_.emplace_back([this] { run(); });
  } catch (const std::system_error&) {
    return !threads_.empty();
  }
  return !threads_.empty();
}

void PostingPool::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stop_ || !ready_.empty(); });
    if (stop_) return;
    PostingQueue& queue = *ready_.front();
    ready_.erase(ready_.begin());
    const std::vector<WorkRequest> list = std::move(queue.lists_.front());
    queue.lists_.pop_front();
    queue.busy_ = true;
    post(lock, queue, list);
    queue.busy_ = false;
    if (!queue.lists_.empty()) ready_.push_back(&queue);
    rested_.notify_all();
  }
}

void PostingPool::post(std::unique_lock<std::mutex>& lock, PostingQueue& queue,
                       std::span<const WorkRequest> rest) {
  while (!rest.empty() && !queue.forgotten_) {
    lock.unlock();
    const Posted posted = queue.post_(rest);
    const bool is_full = posted.error == std::errc::not_enough_memory;
    lock.lock();
    if (posted.error && !is_full) return give_up(lock, queue, posted.error);
    rest = rest.subspan(posted.count);
    // Some completion will make room, and nobody tells us of it.
    if (is_full) rested_.wait_for(lock, std::chrono::milliseconds(1), [&queue] { return queue.forgotten_; });
  }
}

void PostingPool::give_up(std::unique_lock<std::mutex>& lock, PostingQueue& queue, std::error_code error) {
  queue.broken_ = error;
  queue.lists_.clear();
  lock.unlock();
  failed_(error);
  lock.lock();
}

PostingQueue::PostingQueue(PostingPool& pool, Post post) : pool_(pool), post_(std::move(post)) {
  const std::lock_guard lock(pool_.mutex_);
  pool_.ready_.reserve(pool_.queues_ + 1);
  ++pool_.queues_;
}

PostingQueue::~PostingQueue() {
  std::unique_lock lock(pool_.mutex_);
  --pool_.queues_;
  forgotten_ = true;
  lists_.clear();
  std::erase(pool_.ready_, this);
  pool_.rested_.notify_all();
  pool_.rested_.wait(lock, [this] { return !busy_; });
}

std::optional<Posted> PostingQueue::add(std::span<const WorkRequest> list) {
  const Posted all{list.size(), {}};
  {
    const std::lock_guard lock(pool_.mutex_);
    if (broken_) return Posted{0, broken_};
    if (!pool_.start_threads()) return std::nullopt;
    lists_.emplace_back(list.begin(), list.end());
    if (busy_ || lists_.size() > 1) return all;  // whoever is at it takes this one next
    pool_.ready_.push_back(this);
  }
  pool_.work_.notify_one();
  return all;
}

bool PostingQueue::is_idle() const {
  const std::lock_guard lock(pool_.mutex_);
  return lists_.empty() && !busy_ && !broken_;
}

}  // namespace ramferry::rdma
