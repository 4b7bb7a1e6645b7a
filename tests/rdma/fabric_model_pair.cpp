// SPDX-License-Identifier: MIT
#include "model_pair.hpp"
#include "transport_parts.hpp"

#include <ramferry/forwarding_channel.hpp>

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
class Keeping final : public ForwardingChannel {
 public:
  Keeping(std::shared_ptr<ModelNet> net, std::unique_ptr<Channel> channel)
      : ForwardingChannel(std::move(channel)), net_(std::move(net)) {}
  ~Keeping() override { drop(); }  // before its net

 private:
  std::shared_ptr<ModelNet> net_;
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
