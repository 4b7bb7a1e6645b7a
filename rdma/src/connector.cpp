// SPDX-License-Identifier: MIT
// The connecting end of a session: the control connection, then the lanes, then the destination's word.
#include "channel.hpp"
#include "qemu_source.hpp"
#include "transport_parts.hpp"

#include <chrono>
#include <utility>

namespace ramferry::rdma {
namespace {

/// The answer to one hello; an error for a refusal.
Result<std::pair<std::unique_ptr<QueuePair>, Answer>> say_hello(RdmaChannel& channel, const Hello& hello,
                                                                Deadline deadline) {
  const bool control = hello.kind == Hello::Kind::control;
  const QueueShape shape = control ? RdmaChannel::control_shape() : RdmaChannel::lane_shape(hello.lanes);
  const auto receives = control ? channel.control_receives() : channel.lane_receives(hello.lane);
  RAMFERRY_TRY_ASSIGN(Connected connected,
                      channel.domain().connect(shape, receives, encode(hello), deadline));
  RAMFERRY_TRY_ASSIGN(const Answer answer, decode_answer(connected.answer));
  if (!connected.queue) return fail(errc::peer_failed, "connecting: the destination refused");
  return std::pair(std::move(connected.queue), answer);
}

Result<std::unique_ptr<RdmaChannel>> connect_all(Log& log, Fabric& fabric, const Address& to,
                                                 const Options& options, SessionId session,
                                                 Deadline deadline) {
  const std::uint32_t lanes = options.lanes;
  RAMFERRY_TRY_ASSIGN(auto domain,
                      fabric.open_towards(to, options.link, RdmaChannel::completions_for(lanes), deadline));
  RAMFERRY_TRY_ASSIGN(auto channel, RdmaChannel::make({log, options, std::move(domain), session, lanes}));
  Hello hello{.kind = Hello::Kind::control,
              .lanes = static_cast<std::uint8_t>(lanes),
              .pin_all = options.pin == Pin::all,
              .session = session,
              .peer_timeout_ms = static_cast<std::uint32_t>(options.peer_timeout.count()),
              .receives = kControlReceives};
  RAMFERRY_TRY_ASSIGN(auto control, say_hello(*channel, hello, deadline));
  const Answer& answer = control.second;
  channel->attach_control(std::move(control.first), answer.receives,
                          std::chrono::milliseconds(answer.peer_timeout_ms));
  hello.kind = Hello::Kind::lane;
  hello.token = answer.token;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    hello.lane = static_cast<std::uint8_t>(lane);
    RAMFERRY_TRY_ASSIGN(auto connected, say_hello(*channel, hello, deadline));
    channel->attach_lane(lane, std::move(connected.first));
  }
  RAMFERRY_TRY(channel->start({}));
  RAMFERRY_TRY(channel->await_peer(deadline));
  return channel;
}

Result<std::unique_ptr<ByteStream>> connect_stock(Log& log, Fabric& fabric, const Address& to,
                                                  const Options& options, Deadline deadline) {
  RAMFERRY_TRY_ASSIGN(auto domain,
                      fabric.open_towards(to, options.link, qemu::QemuLink::completions(), deadline));
  RAMFERRY_TRY_ASSIGN(auto link, qemu::QemuLink::make(log, std::move(domain)));
  const bool pin_all = options.pin == Pin::all;
  const auto receives = link->receives();
  RAMFERRY_TRY_ASSIGN(Connected connected,
                      link->domain().connect(link->shape(), receives, qemu::encode({pin_all}), deadline));
  if (!connected.queue) return fail(errc::peer_failed, "connecting: the destination refused");
  RAMFERRY_TRY_ASSIGN(const auto answer, qemu::decode_greeting(connected.answer));
  link->attach(std::move(connected.queue));
  RAMFERRY_TRY_ASSIGN(
      auto source,
      qemu::QemuSource::make(std::move(link), {.pin_all = pin_all && answer.pin_all, .run = options.chunk}));
  return std::unique_ptr<ByteStream>(std::move(source));
}

}  // namespace

Result<std::unique_ptr<ByteStream>> connect_qemu(Log& log, Fabric& fabric, const Endpoint& to,
                                                 const Options& options, Deadline deadline) {
  auto stream = connect_stock(log, fabric, {to.host, to.port}, options, deadline);
  if (!stream) return within(std::move(stream).error(), "connecting to " + to.to_string());
  return stream;
}

Result<std::unique_ptr<Channel>> connect_channel(Log& log, Fabric& fabric, const Endpoint& to,
                                                 const Options& options, SessionId session,
                                                 Deadline deadline) {
  if (session.is_nil()) session = SessionId::random();
  auto channel = connect_all(log, fabric, {to.host, to.port}, options, session, deadline);
  if (!channel) return within(std::move(channel).error(), "connecting to " + to.to_string());
  return std::unique_ptr<Channel>(std::move(*channel));
}

}  // namespace ramferry::rdma
