// SPDX-License-Identifier: MIT
#include "model_pair.hpp"
#include "transport_parts.hpp"

#include <future>
#include <utility>

namespace ramferry::rdma::testing {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 30s;

NullLog& no_log() {
  static NullLog log;
  return log;
}

/// A channel that keeps its net alive.
class Keeping final : public Channel {
 public:
  Keeping(std::shared_ptr<ModelNet> net, std::unique_ptr<Channel> channel)
      : net_(std::move(net)), channel_(std::move(channel)) {}

  Result<> send(ConstBytes bytes) override { return channel_->send(bytes); }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    return channel_->receive(into, deadline);
  }
  Result<> finish(Deadline deadline) override { return channel_->finish(deadline); }
  void cancel() noexcept override { channel_->cancel(); }
  StreamStats stats() const noexcept override { return channel_->stats(); }
  Facts facts() const override { return channel_->facts(); }
  Result<> expose(SlotId slot, Landing& landing) override { return channel_->expose(slot, landing); }
  Result<> revoke(Deadline deadline) override { return channel_->revoke(deadline); }
  Result<> lend(std::span<const Placement> plan) override { return channel_->lend(plan); }
  Result<> prepare(ConstBytes range) override { return channel_->prepare(range); }
  Result<> place(std::span<const Placement> batch) override { return channel_->place(batch); }
  Result<> zero(std::span<const ZeroRun> runs) override { return channel_->zero(runs); }
  Result<Epoch> fence() override { return channel_->fence(); }
  Result<> settle(Epoch epoch, Deadline deadline) override { return channel_->settle(epoch, deadline); }
  Epoch settled() const noexcept override { return channel_->settled(); }
  SessionId session() const noexcept override { return channel_->session(); }

 private:
  std::shared_ptr<ModelNet> net_;
  std::unique_ptr<Channel> channel_;
};

Result<std::unique_ptr<Channel>> channel_of(Result<Link> link) {
  RAMFERRY_TRY_ASSIGN(Link made, std::move(link));
  return std::get<std::unique_ptr<Channel>>(std::move(made));
}

}  // namespace

Result<test::ChannelPair> connect_pair(Transport& transport, const std::string& host, SessionId session,
                                       const std::string& options, const std::string& at_destination) {
  const std::string& theirs = at_destination.empty() ? options : at_destination;
  RAMFERRY_TRY_ASSIGN(const Endpoint at, Endpoint::parse("rdma:" + host + ":0?" + theirs));
  RAMFERRY_TRY_ASSIGN(const auto listener, transport.listen(at));
  RAMFERRY_TRY_ASSIGN(Endpoint to, Endpoint::parse("rdma:" + host + ":1?" + options));
  to.port = listener->local().port;
  auto accepting = std::async(std::launch::async,
                              [&] { return channel_of(listener->accept(Deadline::after(kPatience))); });
  auto source = channel_of(transport.connect(to, session, Deadline::after(kPatience)));
  if (!source) listener->cancel();
  auto destination = accepting.get();
  if (!source) return Failure(std::move(source).error());
  if (!destination) return Failure(std::move(destination).error());
  return test::ChannelPair{std::move(*source), std::move(*destination)};
}

Result<test::ChannelPair> make_pair_on(ModelNet& net, SessionId session, const std::string& options,
                                       const std::string& at_destination) {
  const auto transport = make_transport_over(no_log(), net.make_fabric());
  return connect_pair(*transport, "model", session, options, at_destination);
}

Result<test::ChannelPair> make_model_pair(const ModelPlan& plan, SessionId session,
                                          const std::string& options) {
  auto net = std::make_shared<ModelNet>(plan);
  RAMFERRY_TRY_ASSIGN(test::ChannelPair pair, make_pair_on(*net, session, options));
  return test::ChannelPair{std::make_unique<Keeping>(net, std::move(pair.source)),
                           std::make_unique<Keeping>(net, std::move(pair.destination))};
}

}  // namespace ramferry::rdma::testing
