// SPDX-License-Identifier: MIT
// What the tests of the tunnel share: plain sockets for both of its sides, channels between its ends, and the
// two ends.
#pragma once

#include "../../tcp/src/socket_stream.hpp"
#include "messages.hpp"
#include "support/loopback_channel.hpp"

#include <ramferry/forwarding_channel.hpp>
#include <ramferry/posix_transport.hpp>
#include <ramferry/tcp/transport.hpp>
#include <ramferry/tunnel/tunnel.hpp>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::tunnel {

using std::chrono::seconds;

inline std::vector<std::byte> random_bytes(std::size_t count, std::uint32_t seed) {
  std::mt19937 draw(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& each : bytes) each = static_cast<std::byte>(draw());
  return bytes;
}

/// A connected pair of plain sockets: one for the tunnel, one for the test, as if it were a QEMU.
struct Plain {
  std::unique_ptr<ByteStream> tunnel, user;
};

/// `bare`: as a socket whose bytes the kernel can pass on.
inline Plain make_plain(bool bare) {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) std::abort();
  auto user = make_fd_stream(UniqueFd(fds[1]), "user end");
  if (bare) return {std::make_unique<tcp::SocketStream>(UniqueFd(fds[0]), seconds(10)), std::move(user)};
  return {make_fd_stream(UniqueFd(fds[0]), "tunnel end"), std::move(user)};
}

/// What a tunnel is made of. Over sockets its streams go beside the channel.
enum class Fabric : std::uint8_t { loopback, unix_socket, tcp };

/// Two ends of a channel, and what makes their side streams arrive.
class Wire {
 public:
  explicit Wire(Fabric fabric) {
    if (fabric == Fabric::loopback) {
      auto pair = test::make_loopback_pair();
      near = std::move(pair.source);
      far = std::move(pair.destination);
      return;
    }
    char folder[] = "/tmp/ramferry-tunnel-XXXXXX";
    folder_ = ::mkdtemp(folder);
    TransportCatalog catalog;
    catalog.add(make_tcp_transport(log_));
    const std::string at = fabric == Fabric::tcp ? "tcp:127.0.0.1:0" : "unix:" + folder_ + "/fabric";
    listener_ = std::move(*catalog.listen(at));
    auto accepted =
        std::async(std::launch::async, [&] { return listener_->accept(Deadline::after(seconds(20))); });
    near = channel_of(catalog.connect(listener_->local().to_string(), {}, Deadline::after(seconds(20))));
    far = channel_of(accepted.get());
  }
  /// Once both ends have their sessions.
  void serve() {
    if (listener_)
      serving_ = std::async(std::launch::async, [this] { (void)listener_->accept(Deadline::never()); });
  }
  ~Wire() {
    if (listener_) listener_->cancel();
    if (serving_.valid()) serving_.wait();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<Channel> near, far;

 private:
  static std::unique_ptr<Channel> channel_of(Result<Link> link) {
    return std::get<std::unique_ptr<Channel>>(std::move(*link));
  }

  NullLog log_;
  std::string folder_;
  std::unique_ptr<Listener> listener_;
  std::future<void> serving_;
};

inline std::vector<std::byte> read_to_end(ByteStream& from) {
  std::vector<std::byte> all, piece(100'000);
  while (true) {
    const auto got = from.receive(piece, Deadline::after(seconds(20)));
    if (!got || *got == 0) return all;
    all.insert(all.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(*got));
  }
}

/// Until the session at the other end of `channel` is done with a stream: what it said, in order.
inline std::vector<MessageType> hear_until_closed(Channel& channel) {
  std::vector<MessageType> types;
  while (types.empty() || types.back() != MessageType::closed) {
    std::array<std::byte, kMessageBytes> buffer{};
    if (!receive_exactly(channel, buffer, Deadline::after(seconds(30)))) break;
    types.push_back(decode(buffer)->type);
  }
  return types;
}

/// A channel that calls `linger` before it sends a message of that type.
class LingeringChannel : public ForwardingChannel {
 public:
  LingeringChannel(std::unique_ptr<Channel> channel, MessageType over, std::function<void()> linger)
      : ForwardingChannel(std::move(channel)), over_(over), linger_(std::move(linger)) {}
  Result<> send(ConstBytes bytes) override {
    if (decode(bytes)->type == over_) linger_();
    return ForwardingChannel::send(bytes);
  }

 private:
  const MessageType over_;
  const std::function<void()> linger_;
};

/// For what must not happen: whether it does while somebody lingers.
inline bool happens_soon(const std::shared_future<void>& event) {
  return event.wait_for(std::chrono::milliseconds(200)) == std::future_status::ready;
}

/// The program behind the far end: what is dialled waits here for the test.
class Dialled {
 public:
  explicit Dialled(bool bare) : bare_(bare) {}
  Result<std::unique_ptr<ByteStream>> dial() {
    Plain plain = make_plain(bare_);
    const std::lock_guard lock(mutex_);
    users_.push_back(std::move(plain.user));
    changed_.notify_all();
    return std::move(plain.tunnel);
  }
  /// Empty if nothing is dialled for long.
  std::unique_ptr<ByteStream> take() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, seconds(20), [&] { return !users_.empty(); })) return nullptr;
    auto user = std::move(users_.front());
    users_.pop_front();
    return user;
  }

 private:
  const bool bare_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<ByteStream>> users_;
};

/// Two ends, both served.
class TunnelPair {
 public:
  explicit TunnelPair(Fabric fabric, Options options = {}, bool dial_fails = false,
                      const std::function<void()>& before_dial = {})
      : wire_(fabric), bare_(fabric == Fabric::unix_socket), dialled_(bare_) {
    near = std::make_unique<Session>(std::move(wire_.near), options, Dial{}, log_);
    far = std::make_unique<Session>(
        std::move(wire_.far), options,
        [this, dial_fails, before_dial]() -> Result<std::unique_ptr<ByteStream>> {
          if (before_dial) before_dial();
          if (dial_fails) return fail(errc::peer_gone, "dialling");
          return dialled_.dial();
        },
        log_);
    wire_.serve();
    near_run_ = std::async(std::launch::async, [this] { return near->run(); });
    far_run_ = std::async(std::launch::async, [this] { return far->run(); });
  }
  ~TunnelPair() {
    near->cancel();
    far->cancel();
  }
  std::unique_ptr<ByteStream> open() {
    Plain plain = make_plain(bare_);
    const auto opened = near->open(std::move(plain.tunnel));
    EXPECT_TRUE(opened) << opened.error().message();
    return std::move(plain.user);
  }
  std::unique_ptr<ByteStream> take_dialled() { return dialled_.take(); }
  Result<> near_result() { return near_run_.get(); }
  Result<> far_result() { return far_run_.get(); }

 private:
  Wire wire_;
  const bool bare_;
  NullLog log_;
  Dialled dialled_;

 public:
  std::unique_ptr<Session> near, far;

 private:
  std::future<Result<>> near_run_, far_run_;
};

}  // namespace ramferry::tunnel
