// SPDX-License-Identifier: MIT
#include "contract/channel_contract.hpp"

#include <ramferry/tcp/transport.hpp>

#include <unistd.h>

#include <future>

namespace ramferry::test {
namespace {

/// Connects to a listener at `uri`, with `options` at the connecting end.
Result<ChannelPair> connect(const std::string& uri, const std::string& options, SessionId session) {
  static NullLog log;
  const auto transport = make_tcp_transport(log);
  RAMFERRY_TRY_ASSIGN(const Endpoint at, Endpoint::parse(uri));
  RAMFERRY_TRY_ASSIGN(const auto listener, transport->listen(at));
  const Deadline soon = Deadline::after(std::chrono::seconds(10));
  auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon); });
  auto connected = Endpoint::parse(listener->local().to_string() + options);
  auto source = connected ? transport->connect(*connected, session, soon) : Failure(connected.error());
  if (!source) listener->cancel();
  auto destination = accepting.get();
  if (!source) return Failure(source.error());
  if (!destination) return Failure(destination.error());
  return ChannelPair{std::get<std::unique_ptr<Channel>>(std::move(*source)),
                     std::get<std::unique_ptr<Channel>>(std::move(*destination))};
}

ContractSubject subject(const std::string& name, const std::string& uri, const std::string& options) {
  return {name, [uri, options](SessionId session) { return connect(uri, options, session); }};
}

std::string socket_path() {
  return "unix:/tmp/ramferry-contract-" + std::to_string(::getpid());
}

INSTANTIATE_TEST_SUITE_P(Tcp, ChannelContract,
                         ::testing::Values(subject("ipv4_lane1", "tcp:127.0.0.1:0", ""),
                                           subject("ipv6_lanes4", "tcp:[::1]:0", "?lanes=4"),
                                           subject("unix_lane1", socket_path(), ""),
                                           subject("unix_lanes2", socket_path(), "?lanes=2")),
                         subject_name);

}  // namespace
}  // namespace ramferry::test
