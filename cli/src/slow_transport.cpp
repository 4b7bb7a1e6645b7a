// SPDX-License-Identifier: MIT
#include "slow_transport.hpp"

#include <thread>
#include <utility>

namespace ramferry::cli {
namespace {

class SlowChannel final : public Channel {
 public:
  SlowChannel(std::unique_ptr<Channel> channel, std::chrono::microseconds wasted)
      : channel_(std::move(channel)), wasted_(wasted) {}

  Result<> place(std::span<const Placement> batch) override {
    std::this_thread::sleep_for(wasted_);
    return channel_->place(batch);
  }

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
  Result<> zero(std::span<const ZeroRun> runs) override { return channel_->zero(runs); }
  Result<Epoch> fence() override { return channel_->fence(); }
  Result<> settle(Epoch epoch, Deadline deadline) override { return channel_->settle(epoch, deadline); }
  Epoch settled() const noexcept override { return channel_->settled(); }
  SessionId session() const noexcept override { return channel_->session(); }

 private:
  std::unique_ptr<Channel> channel_;
  std::chrono::microseconds wasted_;
};

class SlowTransport final : public Transport {
 public:
  SlowTransport(std::unique_ptr<Transport> transport, std::chrono::microseconds wasted)
      : transport_(std::move(transport)), wasted_(wasted) {}

  Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) override {
    RAMFERRY_TRY_ASSIGN(Link link, transport_->connect(to, session, deadline));
    if (auto* channel = std::get_if<std::unique_ptr<Channel>>(&link)) {
      std::unique_ptr<Channel> slow = std::make_unique<SlowChannel>(std::move(*channel), wasted_);
      return Link(std::move(slow));
    }
    return link;
  }

  std::span<const std::string_view> schemes() const noexcept override { return transport_->schemes(); }
  std::span<const OptionSpec> options() const noexcept override { return transport_->options(); }
  Result<> probe() const override { return transport_->probe(); }
  std::vector<Check> examine(const Endpoint* to) const override { return transport_->examine(to); }
  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override { return transport_->listen(at); }

 private:
  std::unique_ptr<Transport> transport_;
  std::chrono::microseconds wasted_;
};

}  // namespace

std::unique_ptr<Transport> slow_down(std::unique_ptr<Transport> transport, std::chrono::microseconds wasted) {
  if (wasted.count() <= 0) return transport;
  return std::make_unique<SlowTransport>(std::move(transport), wasted);
}

}  // namespace ramferry::cli
