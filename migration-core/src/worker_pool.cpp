// SPDX-License-Identifier: MIT
#include "worker_pool.hpp"

#include <algorithm>

namespace ramferry::migration {

WorkerPool::WorkerPool(unsigned threads) {
  for (unsigned i = 0; i < std::max(1U, threads); ++i) threads_.emplace_back([this] { work(); });
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wanted_.notify_all();
  for (std::thread& each : threads_) each.join();
}

void WorkerPool::run(std::size_t count, const std::function<void(std::size_t)>& job) {
  if (count == 0) return;
  Order order{.job = job, .count = count};
  std::unique_lock lock(mutex_);
  orders_.push_back(&order);
  wanted_.notify_all();
  finished_.wait(lock, [&order] { return order.done == order.count; });
}

void WorkerPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wanted_.wait(lock, [this] { return stopping_ || !orders_.empty(); });
    if (stopping_) return;
    Order& order = *orders_.front();
    const std::size_t number = order.next++;
    if (order.next == order.count) orders_.pop_front();
    lock.unlock();
    order.job(number);
    lock.lock();
    // The order lives until its last job is counted here, under the lock.
    if (++order.done == order.count) finished_.notify_all();
  }
}

}  // namespace ramferry::migration
