// SPDX-License-Identifier: MIT
#include "checkpoint_node.hpp"

#include <algorithm>

namespace ramferry::cli {

CheckpointNode::CheckpointNode(std::unique_ptr<Listener> listener, checkpoint::ReceiveOptions options,
                               bool once, Log& log, Finished finished)
    : options_(std::move(options)),
      once_(once),
      log_(log),
      finished_(std::move(finished)),
      listener_(std::move(listener)),
      acceptor_([this] { accept_all(); }) {}

CheckpointNode::~CheckpointNode() {
  stop();
  acceptor_.join();
  for (const auto& arrival : arrivals_) arrival->thread.join();
}

void CheckpointNode::accept_all() {
  for (bool more = true; more;) {
    auto link = listener_->accept(Deadline::never());
    if (link) {
      take(std::move(*link));
      more = !once_;
      // A source that opens more connections (multifd) is to hear at once that nobody takes them.
      const std::lock_guard lock(mutex_);
      if (once_) listener_.reset();
    } else {
      // A listener on a command or a descriptor has one link to give.
      const std::lock_guard lock(mutex_);
      const bool expected = stopping_ || (link.error().is(errc::wrong_state) && !arrivals_.empty());
      if (!expected && (kept_ + failed_ == 0 || !link.error().is(errc::wrong_state))) error_ = link.error();
      more = false;
    }
    reap();
  }
  done_accepting_ = true;
  change_.ring();
}

void CheckpointNode::take(Link link) {
  auto arrival = std::make_unique<Arrival>();
  arrival->receiver = std::make_unique<checkpoint::Receiver>(std::move(link), options_, log_);
  const std::lock_guard lock(mutex_);
  if (stopping_) arrival->receiver->cancel();
  Arrival& taken = *arrivals_.emplace_back(std::move(arrival));
  taken.thread = std::thread([this, &taken] { run(taken); });
}

void CheckpointNode::run(Arrival& arrival) {
  const auto result = arrival.receiver->run();
  {
    const std::lock_guard lock(telling_);
    finished_(result);
  }
  const std::lock_guard lock(mutex_);
  ++(result ? kept_ : failed_);
  arrival.over = true;
  change_.ring();
}

/// Frees what the VMs that have arrived took: connections and threads.
void CheckpointNode::reap() {
  std::vector<std::unique_ptr<Arrival>> over;
  {
    const std::lock_guard lock(mutex_);
    const auto first_over = std::stable_partition(arrivals_.begin(), arrivals_.end(),
                                                  [](const auto& arrival) { return !arrival->over; });
    std::move(first_over, arrivals_.end(), std::back_inserter(over));
    arrivals_.erase(first_over, arrivals_.end());
  }
  for (const auto& arrival : over) arrival->thread.join();
}

bool CheckpointNode::progress_free() const {
  const std::lock_guard lock(mutex_);
  return std::all_of(arrivals_.begin(), arrivals_.end(), [](const auto& arrival) { return arrival->over; });
}

CheckpointNode::Progress CheckpointNode::progress() {
  reap();
  const std::lock_guard lock(mutex_);
  Progress now{.kept = kept_, .failed = failed_};
  for (const auto& arrival : arrivals_) {
    if (arrival->over) continue;
    ++now.arriving;
    now.ram_bytes += arrival->receiver->ram_bytes();
    now.seen_bytes += arrival->receiver->seen_bytes();
    now.stream_bytes += arrival->receiver->stream_bytes();
  }
  return now;
}

void CheckpointNode::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& arrival : arrivals_) arrival->receiver->cancel();
    if (listener_) listener_->cancel();
  }
}

std::optional<Error> CheckpointNode::error() {
  const std::lock_guard lock(mutex_);
  return error_;
}

}  // namespace ramferry::cli
