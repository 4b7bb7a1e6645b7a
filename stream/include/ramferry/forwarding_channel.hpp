// SPDX-License-Identifier: MIT
// A channel that hands every call to another one: derive from it to change a few, and forget none of the
// others.
//
// Owns the channel. Threads and errors are those of the channel. What a channel says of itself beside the
// contract (traits.hpp) is not passed on.
#pragma once

#include <ramferry/channel.hpp>

#include <memory>
#include <utility>
#include <vector>

namespace ramferry {

class ForwardingChannel : public Channel {
 public:
  explicit ForwardingChannel(std::unique_ptr<Channel> channel) : channel_(std::move(channel)) {}

  Result<> send(ConstBytes bytes) override { return channel_->send(bytes); }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    return channel_->receive(into, deadline);
  }
  Result<> finish(Deadline deadline) override { return channel_->finish(deadline); }
  bool all_or_nothing() const noexcept override { return channel_->all_or_nothing(); }
  void cancel() noexcept override { channel_->cancel(); }
  StreamStats stats() const noexcept override { return channel_->stats(); }
  Facts facts() const override { return channel_->facts(); }
  std::vector<UniqueFd> take_descriptors() override { return channel_->take_descriptors(); }
  Result<> expose(SlotId slot, Landing& landing) override { return channel_->expose(slot, landing); }
  Result<> revoke(Deadline deadline) override { return channel_->revoke(deadline); }
  Result<> lend(std::span<const Placement> plan) override { return channel_->lend(plan); }
  Result<> prepare(ConstBytes range) override { return channel_->prepare(range); }
  std::uint64_t prepares_at_most() const noexcept override { return channel_->prepares_at_most(); }
  Result<> place(std::span<const Placement> batch) override { return channel_->place(batch); }
  Result<> zero(std::span<const ZeroRun> runs) override { return channel_->zero(runs); }
  Result<Epoch> fence() override { return channel_->fence(); }
  Result<Epoch> place_and_tell(const Placement& placement, ConstBytes message) override {
    return channel_->place_and_tell(placement, message);
  }
  Result<> settle(Epoch epoch, Deadline deadline) override { return channel_->settle(epoch, deadline); }
  Epoch settled() const noexcept override { return channel_->settled(); }
  SessionId session() const noexcept override { return channel_->session(); }

 protected:
  /// Ends the channel now, for what must outlive it. No call may follow.
  void drop() noexcept { channel_.reset(); }

 private:
  std::unique_ptr<Channel> channel_;
};

}  // namespace ramferry
