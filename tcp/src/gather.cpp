// SPDX-License-Identifier: MIT
// Puts the lanes of a session together, and answers them.
#include "channel.hpp"
#include "gathering.hpp"

#include <sys/socket.h>

#include <cerrno>

namespace ramferry::tcp {
namespace {

bool hung_up(int fd) noexcept {
  std::byte byte;
  const ssize_t got = ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

}  // namespace

void SocketListener::gather(UniqueFd socket, const Preamble& hello, std::uint64_t bytes) {
  if (!prepare_socket(socket.get(), settings_)) return;
  std::string refusal;
  Gathering* const gathering = gathering_for(hello, refusal);
  if (gathering == nullptr) {
    log_.warn("a connection from " + peer_address(socket.get()) + " is turned away: " + refusal);
    return refuse(socket.get(), refusal);
  }
  gathering->sockets[hello.lane] = std::move(socket);
  gathering->bytes += bytes;
  if (--gathering->missing == 0) complete(*gathering);
}

SocketListener::Gathering* SocketListener::gathering_for(const Preamble& hello, std::string& refusal) {
  const SessionKey key = hello.session.value;
  auto found = gatherings_.find(key);
  if (found != gatherings_.end()) {
    // A source that lost its connections and comes again finds the remains of its first attempt.
    UniqueFd& taken =
        found->second.sockets[std::min<std::size_t>(hello.lane, found->second.sockets.size() - 1)];
    if (taken && hung_up(taken.get())) {
      gatherings_.erase(found);
      found = gatherings_.end();
    }
  }
  if (found == gatherings_.end()) {
    if (gatherings_.size() >= kMostGatherings) {
      refusal = "too many sessions are being set up";
      return nullptr;
    }
    found = gatherings_.try_emplace(key, context_, hello).first;
    found->second.patience.expires_after(settings_.peer_timeout);
    found->second.patience.async_wait([this, key](const AsioError& error) {
      if (!error) give_up(key, "not all lanes of the session arrived in time");
    });
    return &found->second;
  }
  Gathering& gathering = found->second;
  if (hello.lanes != gathering.first.lanes)
    refusal = "the session has " + std::to_string(gathering.first.lanes) + " lanes, not " +
              std::to_string(hello.lanes);
  else if (gathering.sockets[hello.lane])
    refusal = "the session has a lane " + std::to_string(hello.lane) + " already";
  else
    return &gathering;
  return nullptr;
}

void SocketListener::complete(Gathering& gathering) {
  ChannelSetup setup;
  setup.sockets = std::move(gathering.sockets);
  setup.session = gathering.first.session;
  setup.own_timeout = settings_.peer_timeout;
  setup.peer_timeout = std::chrono::milliseconds(gathering.first.peer_timeout_ms);
  setup.peer_window = gathering.first.window;
  setup.preamble_bytes_received = gathering.bytes;
  setup.door = make_door(setup.session.value);
  gatherings_.erase(setup.session.value);
  for (std::size_t lane = 0; lane < setup.sockets.size(); ++lane) {
    std::vector<std::byte> answer;
    encode_preamble({.kind = PreambleKind::accepted,
                     .session = setup.session,
                     .lane = static_cast<std::uint16_t>(lane),
                     .lanes = static_cast<std::uint16_t>(setup.sockets.size()),
                     .optional = kSidesFeature,
                     .window = SocketChannel::kWindow,
                     .peer_timeout_ms = static_cast<std::uint32_t>(settings_.peer_timeout.count()),
                     .reason = {}},
                    answer);
    const Result<> sent =
        write_all(setup.sockets[lane].get(), answer, "answering " + peer_address(setup.sockets[lane].get()));
    if (!sent) return log_.warn(sent.error().message());
    setup.preamble_bytes_sent += answer.size();
  }
  hand_out(std::unique_ptr<Channel>(std::make_unique<SocketChannel>(std::move(setup), log_)));
}

std::shared_ptr<SideDoor> SocketListener::make_door(const SessionKey& session) {
  for (auto each = doors_.begin(); each != doors_.end();)
    each = each->second.expired() ? doors_.erase(each) : std::next(each);
  auto door = std::make_shared<SideDoor>();
  doors_[session] = door;
  return door;
}

void SocketListener::take_side(const StrangerPtr& stranger, const Preamble& hello) {
  const auto found = doors_.find(hello.session.value);
  const auto door = found == doors_.end() ? nullptr : found->second.lock();
  const std::string from = stranger->from;
  UniqueFd socket = let_go(stranger);
  if (!prepare_socket(socket.get(), settings_)) return;
  if (!door || !door->put(hello.side, socket))
    log_.warn("a connection from " + from + " is turned away: no session here waits for it");
}

void SocketListener::give_up(const SessionKey& session, const std::string& why) {
  const auto found = gatherings_.find(session);
  if (found == gatherings_.end()) return;
  log_.warn("session " + found->second.first.session.to_string() + " is turned away: " + why);
  for (const UniqueFd& socket : found->second.sockets)
    if (socket) refuse(socket.get(), why);
  gatherings_.erase(found);
}

void SocketListener::refuse(int fd, const std::string& why) {
  std::vector<std::byte> answer;
  encode_preamble({.kind = PreambleKind::refused, .session = {}, .reason = why}, answer);
  // Small, and the first thing written: it fits the buffer. If not, the end of the connection says enough.
  (void)::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  // What it goes on to say is read, so that closing does not reset the connection and the answer with it.
  ::shutdown(fd, SHUT_WR);
  std::array<std::byte, kMaxPreambleBytes> rest;
  while (::recv(fd, rest.data(), rest.size(), MSG_DONTWAIT) > 0) {
  }
}

}  // namespace ramferry::tcp
