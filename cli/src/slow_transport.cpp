// SPDX-License-Identifier: MIT
#include "slow_transport.hpp"

#include <ramferry/forwarding_channel.hpp>

#include <thread>
#include <utility>

namespace ramferry::cli {
namespace {

class SlowChannel final : public ForwardingChannel {
 public:
  SlowChannel(std::unique_ptr<Channel> channel, std::chrono::microseconds wasted)
      : ForwardingChannel(std::move(channel)), wasted_(wasted) {}

  Result<> place(std::span<const Placement> batch) override {
    std::this_thread::sleep_for(wasted_);
    return ForwardingChannel::place(batch);
  }

 private:
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
