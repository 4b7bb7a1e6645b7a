// SPDX-License-Identifier: MIT
// Connections that a test has made and a listener has yet to accept, and the listener that hands them out.
//
// Any thread may push, accept and cancel. The queue is shared: it may outlive its listener, and a test keeps
// it.
#pragma once

#include <ramferry/transport.hpp>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace ramferry::test {

class LinkQueue {
 public:
  void push(Link link) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(link));
    changed_.notify_all();
  }
  Result<Link> pop(Deadline deadline) {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return cancelled_ || !waiting_.empty(); };
    if (!changed_.wait_for(lock, deadline.left(std::chrono::hours(1)), ready))
      return fail(errc::timed_out, "accepting");
    if (cancelled_) return fail(errc::cancelled, "accepting");
    Link link = std::move(waiting_.front());
    waiting_.pop_front();
    return link;
  }
  void cancel() noexcept {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Link> waiting_;
  bool cancelled_ = false;
};

class QueueListener final : public Listener {
 public:
  explicit QueueListener(std::shared_ptr<LinkQueue> queue, Endpoint at = {.scheme = "test"})
      : queue_(std::move(queue)), at_(std::move(at)) {}
  Endpoint local() const override { return at_; }
  Result<Link> accept(Deadline deadline) override { return queue_->pop(deadline); }
  void cancel() noexcept override { queue_->cancel(); }

 private:
  std::shared_ptr<LinkQueue> queue_;
  Endpoint at_;
};

}  // namespace ramferry::test
