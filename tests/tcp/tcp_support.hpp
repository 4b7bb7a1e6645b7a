// SPDX-License-Identifier: MIT
// What the tests of the socket transport share: a log that remembers, and a peer made of a bare socket.
#pragma once

#include "../../tcp/src/frame.hpp"
#include "../../tcp/src/preamble.hpp"
#include "support/outcome.hpp"

#include <ramferry/tcp/transport.hpp>
#include <ramferry/unique_fd.hpp>

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::tcp::test {

inline Deadline soon() {
  return Deadline::after(std::chrono::seconds(20));
}

class RecordingLog final : public Log {
 public:
  bool wants(LogLevel level) const noexcept override { return level <= LogLevel::info; }
  void write(LogLevel /*level*/, std::string_view line) noexcept override {
    const std::lock_guard lock(mutex_);
    lines_ += std::string(line) + "\n";
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::string lines_;
};

using ramferry::test::why;

/// Aborts the test program on a bad URI.
inline Endpoint endpoint(const std::string& uri) {
  return Endpoint::parse(uri).value();
}

inline std::vector<std::byte> to_bytes(std::string_view text) {
  const ConstBytes bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

/// A path for a unix socket that no other test process uses.
inline std::string socket_path(const std::string& name) {
  return "/tmp/ramferry-tcp-test-" + std::to_string(::getpid()) + "-" + name;
}

/// A connected TCP socket on which a test says what it likes.
class RawPeer {
 public:
  explicit RawPeer(const Endpoint& to) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(to.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  /// Stops at the first byte that the other end does not take any more.
  void say(ConstBytes bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
  }
  void say_hello(SessionId session, std::uint16_t lane = 0, std::uint16_t lanes = 1) const {
    std::vector<std::byte> hello;
    encode_preamble({.session = session,
                     .lane = lane,
                     .lanes = lanes,
                     .window = 1U << 20,
                     .peer_timeout_ms = 10000,
                     .reason = {}},
                    hello);
    say(hello);
  }
  /// Exactly so many bytes, or fewer if the connection ends.
  std::vector<std::byte> hear(std::size_t most) const {
    std::vector<std::byte> heard(most);
    std::size_t have = 0;
    while (have < most) {
      const ssize_t got = ::recv(socket_.get(), heard.data() + have, most - have, 0);
      if (got <= 0) break;
      have += static_cast<std::size_t>(got);
    }
    heard.resize(have);
    return heard;
  }
  Result<Preamble> hear_answer() const {
    std::vector<std::byte> bytes = hear(kPreamblePrefix);
    if (bytes.size() < kPreamblePrefix) return fail(errc::peer_gone, "hearing an answer");
    RAMFERRY_TRY_ASSIGN(const std::size_t size,
                        decode_preamble_size(std::span<const std::byte, kPreamblePrefix>(bytes)));
    const std::vector<std::byte> rest = hear(size - kPreamblePrefix);
    bytes.insert(bytes.end(), rest.begin(), rest.end());
    return decode_preamble(bytes);
  }
  /// The text of the error frame that comes before the connection ends, or nothing.
  std::string hear_error() const {
    for (;;) {
      const std::vector<std::byte> bytes = hear(kHeaderBytes);
      if (bytes.size() < kHeaderBytes) return "";
      const auto header = decode_header(HeaderBytes(bytes));
      if (!header) return "";
      const std::vector<std::byte> payload = hear(header->payload);
      if (header->type == FrameType::error)
        return {reinterpret_cast<const char*>(payload.data()), payload.size()};
    }
  }
  /// Whether the other end hangs up.
  bool is_hung_up() const {
    std::byte byte{};
    const ssize_t got = ::recv(socket_.get(), &byte, 1, 0);
    return got == 0 || (got < 0 && errno == ECONNRESET);  // reset: it did not care to read all that was said
  }
  void close() { socket_.reset(); }

 private:
  UniqueFd socket_;
};

/// A channel whose peer is a RawPeer.
struct RawLink {
  std::unique_ptr<RawPeer> peer;
  std::unique_ptr<Channel> channel;
};

/// The destruction order matters: the channel logs.
class TcpTest : public ::testing::Test {
 protected:
  std::unique_ptr<Listener> listen(const std::string& uri) {
    auto listener = transport_->listen(endpoint(uri));
    EXPECT_TRUE(listener.has_value()) << why(listener);
    return listener ? std::move(*listener) : nullptr;
  }
  Result<Link> connect(const Endpoint& to) { return transport_->connect(to, {}, soon()); }
  Result<Link> connect(const std::string& uri) { return connect(endpoint(uri)); }

  RawLink raw_link(const std::string& options = "") {
    const auto listener = listen("tcp:127.0.0.1:0" + options);
    RawLink link;
    link.peer = std::make_unique<RawPeer>(listener->local());
    link.peer->say_hello(SessionId::random());
    auto accepted = listener->accept(soon());
    EXPECT_TRUE(accepted.has_value()) << why(accepted);
    EXPECT_TRUE(link.peer->hear_answer().has_value());
    link.channel = std::get<std::unique_ptr<Channel>>(std::move(*accepted));
    return link;
  }
  /// Both ends of a connection, the connecting one first.
  std::pair<Link, Link> link(const std::string& at, const std::string& options = "") {
    const auto listener = listen(at);
    auto accepting = std::async(std::launch::async, [&] { return listener->accept(soon()); });
    auto connected = connect(listener->local().to_string() + options);
    auto accepted = accepting.get();
    EXPECT_TRUE(connected.has_value()) << why(connected);
    EXPECT_TRUE(accepted.has_value()) << why(accepted);
    return {std::move(*connected), std::move(*accepted)};
  }
  std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> channels(const std::string& at,
                                                                         const std::string& options = "") {
    auto [source, destination] = link(at, options);
    return {std::get<0>(std::move(source)), std::get<0>(std::move(destination))};
  }

  RecordingLog log_;
  std::unique_ptr<Transport> transport_ = make_tcp_transport(log_);
};

}  // namespace ramferry::tcp::test
