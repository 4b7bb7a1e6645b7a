// SPDX-License-Identifier: MIT
// The connecting end of a session: the control connection, then the lanes, then the destination's word.
#include "channel.hpp"
#include "qemu_source.hpp"
#include "transport_parts.hpp"

#include <ramferry/timeline.hpp>

#include <utility>

namespace ramferry::rdma {
namespace {

Failure refused() {
  return fail(errc::peer_failed, "connecting: the destination refused", "its log says why");
}

/// What the destination said, unless it refused.
Result<Answer> answer_of(const Connected& connected) {
  RAMFERRY_TRY_ASSIGN(const Answer answer, decode_answer(connected.answer));
  if (!connected.queue) return refused();
  return answer;
}

/// The answer to the hello that opens the session.
Result<Answer> connect_control(RdmaChannel& channel, const Hello& hello, Deadline deadline) {
  const auto receives = channel.control_receives();
  RAMFERRY_TRY_ASSIGN(Connected connected, channel.domain().connect(RdmaChannel::control_shape(), receives,
                                                                    encode(hello), deadline));
  RAMFERRY_TRY_ASSIGN(const Answer answer, answer_of(connected));
  channel.attach_control(std::move(connected.queue), answer.receives,
                         std::chrono::milliseconds(answer.peer_timeout_ms));
  return answer;
}

/// `hello` is that of every lane, but for its number.
Result<> connect_lanes(RdmaChannel& channel, Hello hello, Deadline deadline) {
  std::vector<std::vector<Receive>> receives;
  std::vector<std::vector<std::byte>> hellos;
  for (std::uint32_t lane = 0; lane < hello.lanes; ++lane) {
    hello.lane = static_cast<std::uint8_t>(lane);
    receives.push_back(channel.lane_receives(lane));
    hellos.push_back(encode(hello));
  }
  std::vector<Dial> dials;
  for (std::uint32_t lane = 0; lane < hello.lanes; ++lane)
    dials.push_back({RdmaChannel::lane_shape(hello.lanes), receives[lane], hellos[lane]});
  RAMFERRY_TRY_ASSIGN(auto connected, channel.domain().connect_all(dials, deadline));
  for (std::uint32_t lane = 0; lane < hello.lanes; ++lane) {
    RAMFERRY_TRY(answer_of(connected[lane]));
    channel.attach_lane(lane, std::move(connected[lane].queue));
  }
  return {};
}

Result<std::unique_ptr<RdmaChannel>> connect_all(Log& log, Fabric& fabric, const Address& to,
                                                 const Options& options, SessionId session,
                                                 Deadline deadline) {
  const SystemClock clock;
  const std::uint32_t lanes = options.lanes;
  RAMFERRY_TRY_ASSIGN(auto domain,
                      fabric.open_towards(to, options.link, RdmaChannel::completions_for(lanes), deadline));
  RAMFERRY_TRY_ASSIGN(auto channel,
                      RdmaChannel::make({log, options, std::move(domain), session, lanes, true}));
  Hello hello{.kind = Hello::Kind::control,
              .lanes = static_cast<std::uint8_t>(lanes),
              .pin_all = options.pin == Pin::all,
              .session = session,
              .peer_timeout_ms = static_cast<std::uint32_t>(options.peer_timeout.count()),
              .receives = kControlReceives};
  log_step(log, clock, "rdma", "opened");
  RAMFERRY_TRY_ASSIGN(const Answer answer, connect_control(*channel, hello, deadline));
  log_step(log, clock, "rdma", "control");
  hello.kind = Hello::Kind::lane;
  hello.token = answer.token;
  RAMFERRY_TRY(connect_lanes(*channel, hello, deadline));
  log_step(log, clock, "rdma", "lanes");
  RAMFERRY_TRY(channel->start({}));
  RAMFERRY_TRY(channel->await_peer(deadline));
  log_step(log, clock, "rdma", "ready");
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
  if (!connected.queue) return refused();
  RAMFERRY_TRY_ASSIGN(const auto answer, qemu::decode_greeting(connected.answer));
  link->attach(std::move(connected.queue));
  link->look_after_peer(options.peer_timeout / 2);
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
