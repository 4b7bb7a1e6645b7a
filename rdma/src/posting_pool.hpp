// SPDX-License-Identifier: MIT
// Threads that post lists of work requests, for devices whose posting is the moving itself.
//
// A device made of software sends, and on one machine even receives, within the call that posts. So what one
// thread posts goes by one processor, on however many queue pairs; here each queue's lists are posted in
// their order, and different queues' at the same time.
//
// Threads: a PostingQueue is added to by one thread at a time. Ownership: queues go before their pool.
// Failure: a full device queue is tried again until there is room. Any other error breaks the queue, so that
// nothing overtakes what was lost: the rest is dropped, and `failed` is told, once for each queue.
#pragma once

#include "fabric.hpp"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <system_error>
#include <thread>
#include <vector>

namespace ramferry::rdma {

class PostingQueue;

class PostingPool {
 public:
  /// The threads, this many at most, start when there is work for them.
  PostingPool(unsigned threads, std::function<void(std::error_code)> failed);
  ~PostingPool();
  PostingPool(const PostingPool&) = delete;
  PostingPool& operator=(const PostingPool&) = delete;

 private:
  friend class PostingQueue;
  bool start_threads();
  void run();
  void post(std::unique_lock<std::mutex>& lock, PostingQueue& queue, std::span<const WorkRequest> rest);
  void give_up(std::unique_lock<std::mutex>& lock, PostingQueue& queue, std::error_code error);

  const unsigned most_threads_;
  const std::function<void(std::error_code)> failed_;
  std::mutex mutex_;
  std::condition_variable work_, rested_;
  std::vector<PostingQueue*> ready_;  // each has lists, and no thread is at it; there is room for all
  std::size_t queues_ = 0;
  std::vector<std::thread> threads_;
  bool stop_ = false;
};

/// One queue pair's lists that are still to be posted. When it goes, they are forgotten.
class PostingQueue {
 public:
  using Post = std::function<Posted(std::span<const WorkRequest>)>;

  PostingQueue(PostingPool& pool, Post post);
  ~PostingQueue();
  PostingQueue(const PostingQueue&) = delete;
  PostingQueue& operator=(const PostingQueue&) = delete;

  /// Takes all of the list, or none with the error that broke the queue; nothing if there is no thread to be
  /// had. Throws std::bad_alloc, and has added nothing then.
  std::optional<Posted> add(std::span<const WorkRequest> list);
  /// Everything that was added has been posted, which is never so again once the queue is broken.
  bool is_idle() const;

 private:
  friend class PostingPool;

  PostingPool& pool_;
  const Post post_;
  std::deque<std::vector<WorkRequest>> lists_;  // all of this under the pool's lock
  bool busy_ = false, forgotten_ = false;
  std::error_code broken_;
};

}  // namespace ramferry::rdma
