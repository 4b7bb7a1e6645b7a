// SPDX-License-Identifier: MIT
// Threads that share out numbered jobs.
//
// run() from several threads at once; each returns when its own jobs are done.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ramferry::migration {

class WorkerPool {
 public:
  explicit WorkerPool(unsigned threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Calls `job` with 0 … count - 1, in any order, on the pool's threads, and waits for all.
  void run(std::size_t count, const std::function<void(std::size_t)>& job);

 private:
  /// One run().
  struct Order {
    const std::function<void(std::size_t)>& job;
    std::size_t count, next = 0, done = 0;
  };
  void work();

  std::mutex mutex_;
  std::condition_variable wanted_, finished_;
  std::deque<Order*> orders_;  ///< with jobs that nobody has begun
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace ramferry::migration
