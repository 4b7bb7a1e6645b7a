// SPDX-License-Identifier: MIT
#include "connect.hpp"

#include "asio.hpp"
#include "channel.hpp"
#include "frame.hpp"
#include "multifd_hello.hpp"
#include "preamble.hpp"
#include "socket_stream.hpp"

#include <ramferry/stream_bundle.hpp>

#include <algorithm>
#include <chrono>

namespace ramferry::tcp {
namespace {

using AsioSocket = asio::generic::stream_protocol::socket;

/// An address that does not answer must not use up the time of the next one.
constexpr std::chrono::seconds kMostPerAddress{5};

std::string advice_for(const AsioError& error) {
  if (error == asio::error::connection_refused || error.value() == ENOENT)
    return "start the destination first";
  if (error == asio::error::host_unreachable || error == asio::error::network_unreachable)
    return "check the address and the network";
  return {};
}

/// `count` connections to one address, all at once.
Result<std::vector<UniqueFd>> connect_to(const AsioEndpoint& address, std::size_t count, Deadline deadline,
                                         const std::string& doing) {
  asio::io_context context;
  std::vector<AsioSocket> sockets;
  std::size_t open = count;
  AsioError first_error;
  for (std::size_t i = 0; i < count; ++i) {
    AsioError error;
    sockets.emplace_back(context).open(address.protocol(), error);
    if (error) return asio_failure(error, doing);
  }
  for (AsioSocket& socket : sockets) {
    socket.async_connect(address, [&](const AsioError& error) {
      if (error && !first_error) first_error = error;
      if (error) context.stop();
      --open;
    });
  }
  context.run_until(deadline.when());
  if (first_error) return asio_failure(first_error, doing, advice_for(first_error));
  if (open > 0) return fail(errc::timed_out, doing, "check the address and the network");
  std::vector<UniqueFd> connected;
  for (AsioSocket& socket : sockets) {
    AsioError error;
    connected.emplace_back(socket.release(error));
    if (error) return asio_failure(error, doing);
  }
  return connected;
}

Preamble side_preamble(const SessionId& session, std::uint32_t number, const Settings& settings) {
  return {.kind = PreambleKind::side,
          .session = session,
          .window = SocketChannel::kWindow,
          .peer_timeout_ms = static_cast<std::uint32_t>(settings.peer_timeout.count()),
          .reason = {},
          .side = number};
}

Deadline share_of(Deadline deadline, std::size_t addresses) {
  if (addresses <= 1) return deadline;
  const auto left = deadline.left(std::chrono::hours(1)) / addresses;
  return Deadline::after(std::min<Deadline::Clock::duration>(left, kMostPerAddress));
}

/// The other end's answer on one lane.
Result<Preamble> read_answer(int fd, Deadline deadline, const std::string& doing) {
  std::vector<std::byte> bytes(kPreamblePrefix);
  const Result<> prefix = read_exactly(fd, bytes, deadline, doing);
  if (!prefix && prefix.error().is(errc::peer_gone))
    return fail(prefix.error().code, prefix.error().doing,
                "if the other end is a QEMU, add the option dialect=qemu; else see its log");
  RAMFERRY_TRY(prefix);
  const Result<std::size_t> size = decode_preamble_size(std::span<const std::byte, kPreamblePrefix>(bytes));
  if (!size) return within(size.error(), doing);
  bytes.resize(*size);
  RAMFERRY_TRY(read_exactly(fd, Bytes(bytes).subspan(kPreamblePrefix), deadline, doing));
  Result<Preamble> answer = decode_preamble(bytes);
  if (!answer) return within(answer.error(), doing);
  if (answer->kind == PreambleKind::refused)
    return fail(errc::peer_failed, doing + ": the other end refused: " + printable(answer->reason));
  return answer;
}

}  // namespace

Result<std::vector<UniqueFd>> connect_sockets(const Endpoint& to, std::size_t count, const Settings& settings,
                                              Deadline deadline) {
  const std::string doing = "connecting to " + to.to_string();
  RAMFERRY_TRY_ASSIGN(const std::vector<AsioEndpoint> addresses, resolve(to, false, deadline));
  Result<std::vector<UniqueFd>> sockets = fail(errc::not_found, doing);
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    sockets = connect_to(addresses[i], count, share_of(deadline, addresses.size() - i), doing);
    if (sockets || deadline.passed()) break;
  }
  if (!sockets) return sockets;
  for (const UniqueFd& each : *sockets) RAMFERRY_TRY(prepare_socket(each.get(), settings));
  return sockets;
}

/// Another connection of a session that stands.
Result<UniqueFd> connect_side(const Endpoint& to, const Preamble& side, const Settings& settings,
                              Deadline deadline) {
  RAMFERRY_TRY_ASSIGN(std::vector<UniqueFd> sockets, connect_sockets(to, 1, settings, deadline));
  std::vector<std::byte> hello;
  encode_preamble(side, hello);
  RAMFERRY_TRY(write_all(sockets.front().get(), hello, "connecting to " + to.to_string()));
  return std::move(sockets.front());
}

Result<std::unique_ptr<Channel>> connect_channel(const Endpoint& to, SessionId session,
                                                 const Settings& settings, Deadline deadline, Log& log) {
  const std::string doing = "connecting to " + to.to_string();
  ChannelSetup setup;
  setup.session = session.is_nil() ? SessionId::random() : session;
  setup.own_timeout = settings.peer_timeout;
  RAMFERRY_TRY_ASSIGN(setup.sockets, connect_sockets(to, settings.lanes, settings, deadline));
  for (std::size_t lane = 0; lane < setup.sockets.size(); ++lane) {
    std::vector<std::byte> hello;
    encode_preamble({.kind = PreambleKind::hello,
                     .session = setup.session,
                     .lane = static_cast<std::uint16_t>(lane),
                     .lanes = settings.lanes,
                     .window = SocketChannel::kWindow,
                     .peer_timeout_ms = static_cast<std::uint32_t>(settings.peer_timeout.count()),
                     .reason = {}},
                    hello);
    RAMFERRY_TRY(write_all(setup.sockets[lane].get(), hello, doing));
    setup.preamble_bytes_sent += hello.size();
  }
  for (std::size_t lane = 0; lane < setup.sockets.size(); ++lane) {
    RAMFERRY_TRY_ASSIGN(const Preamble answer, read_answer(setup.sockets[lane].get(), deadline, doing));
    if (answer.session != setup.session || answer.lane != lane || answer.lanes != settings.lanes)
      return fail(errc::protocol_mismatch, doing + ": the answer is for another session or lane");
    setup.peer_window = answer.window;
    setup.peer_timeout = std::chrono::milliseconds(answer.peer_timeout_ms);
    setup.preamble_bytes_received += preamble_bytes(answer);
    if ((answer.optional & kSidesFeature) == 0) continue;
    setup.open_side = [to, settings, name = setup.session](std::uint32_t number, Deadline until) {
      return connect_side(to, side_preamble(name, number, settings), settings, until);
    };
  }
  return std::make_unique<SocketChannel>(std::move(setup), log);
}

Result<Link> connect_qemu(const Endpoint& to, const Settings& settings, Deadline deadline) {
  const auto connect_one = [&]() -> Result<std::unique_ptr<ByteStream>> {
    RAMFERRY_TRY_ASSIGN(auto sockets, connect_sockets(to, 1, settings, deadline));
    return std::make_unique<SocketStream>(std::move(sockets.front()), settings.peer_timeout);
  };
  RAMFERRY_TRY_ASSIGN(std::unique_ptr<ByteStream> main, connect_one());
  if (settings.channels == 0) return Link(std::move(main));
  std::vector<std::unique_ptr<ByteStream>> channels;
  for (std::uint16_t number = 0; number < settings.channels; ++number) {
    RAMFERRY_TRY_ASSIGN(channels.emplace_back(), connect_one());
    std::vector<std::byte> hello;
    encode_multifd_hello({.uuid = settings.uuid, .channel = static_cast<std::uint8_t>(number)}, hello);
    RAMFERRY_TRY(channels.back()->send(hello));
  }
  return Link(std::make_unique<StreamBundle>(std::move(main), std::move(channels)));
}

}  // namespace ramferry::tcp
