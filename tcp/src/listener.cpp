// SPDX-License-Identifier: MIT
// The listening socket itself, and who knocks. Sessions are put together in gather.cpp.
#include "listener.hpp"

#include "bundling.hpp"
#include "gathering.hpp"
#include "socket_stream.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ramferry::tcp {
namespace {

constexpr std::array<std::byte, kSniffBytes> kQemuMagic = {std::byte{'Q'}, std::byte{'E'}, std::byte{'V'},
                                                           std::byte{'M'}};
constexpr std::array<std::byte, kSniffBytes> kMultifdMagic = {std::byte{0x11}, std::byte{0x22},
                                                              std::byte{0x33}, std::byte{0x44}};
constexpr std::chrono::milliseconds kRetryAccept{100};  ///< when the system is out of descriptors or memory

template <std::size_t size>
bool starts_with(ConstBytes bytes, const std::array<std::byte, size>& magic, std::size_t count = size) {
  return bytes.size() >= count &&
         std::equal(magic.begin(), magic.begin() + static_cast<std::ptrdiff_t>(count), bytes.begin());
}

std::uint16_t port_of(const AsioEndpoint& address) noexcept {
  const auto* const raw = static_cast<const sockaddr*>(address.data());
  if (raw->sa_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(raw)->sin_port);
  if (raw->sa_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(raw)->sin6_port);
  return 0;
}

}  // namespace

SocketListener::SocketListener(Endpoint at, const Settings& settings, Log& log)
    : settings_(settings), log_(log), local_(std::move(at)) {}

SocketListener::~SocketListener() {
  struct stat now {};
  if (path_inode_ != 0 && ::lstat(local_.target.c_str(), &now) == 0 && now.st_dev == path_device_ &&
      now.st_ino == path_inode_)
    ::unlink(local_.target.c_str());
}

Result<std::unique_ptr<Listener>> SocketListener::open(const Endpoint& at, const Settings& settings,
                                                       Log& log) {
  RAMFERRY_TRY_ASSIGN(std::vector<AsioEndpoint> addresses,
                      resolve(at, true, Deadline::after(std::chrono::seconds(30))));
  // Everywhere means IPv6 and IPv4: one IPv6 socket takes both, where there is IPv6.
  if (at.scheme == "tcp" && at.host.empty())
    addresses.insert(addresses.begin(), AsioEndpoint(asio::ip::tcp::endpoint(asio::ip::tcp::v6(), at.port)));
  auto listener = std::make_unique<SocketListener>(at, settings, log);
  RAMFERRY_TRY(listener->bind(addresses));
  listener->expect_connection();
  return std::unique_ptr<Listener>(std::move(listener));
}

Result<> SocketListener::bind(const std::vector<AsioEndpoint>& addresses) {
  Result<> bound = fail(errc::not_found, "listening at " + local_.to_string());
  for (const AsioEndpoint& address : addresses) {
    bound = bind_to(address);
    if (bound || bound.error().is(errc::in_use)) return bound;
  }
  return bound;
}

Result<> SocketListener::bind_to(const AsioEndpoint& address) {
  const std::string doing = "listening at " + local_.to_string();
  AsioError error;
  acceptor_.close(error);
  acceptor_.open(address.protocol(), error);
  if (error) return asio_failure(error, doing);
  ::fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC);
  if (address.protocol().family() == AF_INET6)
    acceptor_.set_option(asio::ip::v6_only(!local_.host.empty()), error);
  if (address.protocol().family() != AF_UNIX)
    acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  acceptor_.bind(address, error);
  if (error == asio::error::address_in_use && address.protocol().family() == AF_UNIX) {
    RAMFERRY_TRY(clear_stale_path(address));
    acceptor_.bind(address, error);
  }
  if (error == asio::error::address_in_use)
    return asio_failure(error, doing, "stop the other program, or choose another address");
  if (error) return asio_failure(error, doing);
  acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (!error) acceptor_.non_blocking(true, error);
  if (error) return asio_failure(error, doing);
  if (address.protocol().family() == AF_UNIX)
    remember_path();
  else
    local_.port = port_of(acceptor_.local_endpoint(error));
  return {};
}

Result<> SocketListener::clear_stale_path(const AsioEndpoint& address) {
  const std::string doing = "listening at " + local_.to_string();
  struct stat there {};
  if (::lstat(local_.target.c_str(), &there) != 0) return {};  // gone meanwhile
  if (!S_ISSOCK(there.st_mode))
    return fail(errc::in_use, doing + ": the path is not a socket", "choose another path");
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return fail_errno(errno, doing);
  const bool refused = ::connect(probe.get(), static_cast<const sockaddr*>(address.data()),
                                 static_cast<socklen_t>(address.size())) != 0 &&
                       errno == ECONNREFUSED;
  if (!refused)
    return fail(errc::in_use, doing + ": another program listens there",
                "stop the other program, or choose another path");
  log_.info("removing the socket file that an ended program left at " + local_.target);
  if (::unlink(local_.target.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, doing);
  return {};
}

void SocketListener::remember_path() {
  struct stat ours {};
  if (::lstat(local_.target.c_str(), &ours) != 0) return;
  path_device_ = ours.st_dev;
  path_inode_ = ours.st_ino;
}

Result<Link> SocketListener::accept(Deadline deadline) {
  for (bool looked = false;; looked = true) {
    context_.restart();
    if (cancelled_) return fail(errc::cancelled, "accepting at " + local_.to_string());
    if (!ready_.empty()) {
      Link link = std::move(ready_.front());
      ready_.pop_front();
      return link;
    }
    if (broken_) return Failure(*broken_);
    if (looked && deadline.passed())
      return fail(errc::timed_out, "waiting for a connection at " + local_.to_string());
    if (deadline.passed())
      context_.poll();
    else
      context_.run_until(deadline.when());
  }
}

void SocketListener::cancel() noexcept {
  cancelled_ = true;
  context_.stop();
}

void SocketListener::hand_out(Link link) {
  ready_.push_back(std::move(link));
  context_.stop();
}

// --- who knocks ---

void SocketListener::expect_connection() {
  acceptor_.async_wait(asio::socket_base::wait_read, [this](const AsioError& error) {
    if (!error) take_connections();
  });
}

void SocketListener::take_connections() {
  // Our own accept: Asio's would not close the descriptor on exec.
  UniqueFd socket(::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  const int error_number = errno;
  if (socket) {
    greet(std::move(socket));
    return expect_connection();
  }
  switch (error_number) {
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      // Waiting for readiness again would spin: the connection is still there.
      log_.warn("accepting at " + local_.to_string() + ": " + std::generic_category().message(error_number) +
                "; trying again (raise the limit of open files)");
      retry_.expires_after(kRetryAccept);
      return retry_.async_wait([this](const AsioError& error) {
        if (!error) take_connections();
      });
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
      broken_ = fail_errno(error_number, "accepting at " + local_.to_string()).value();
      return context_.stop();
    default: return expect_connection();  // gone again before it was taken
  }
}

void SocketListener::greet(UniqueFd socket) {
  if (settings_.dialect == Settings::Dialect::qemu && settings_.channels == 0) {
    if (prepare_socket(socket.get(), settings_))
      hand_out(std::make_unique<SocketStream>(std::move(socket), settings_.peer_timeout));
    return;
  }
  if (strangers_.size() >= kMostStrangers) drop(strangers_.front(), "too many wait at once", false);
  std::string from = peer_address(socket.get());
  const auto stranger = std::make_shared<Stranger>(context_, std::move(socket), std::move(from));
  strangers_.push_back(stranger);
  stranger->patience.expires_after(settings_.peer_timeout);
  stranger->patience.async_wait([this, stranger](const AsioError& error) {
    if (!error) drop(stranger, "it did not say in time who it is", false);
  });
  read_more(stranger, kSniffBytes, &SocketListener::sniff);
}

void SocketListener::read_more(const StrangerPtr& stranger, std::size_t total,
                               void (SocketListener::*next)(const StrangerPtr&)) {
  const std::size_t have = stranger->bytes.size();
  stranger->bytes.resize(total);
  asio::async_read(stranger->socket, asio::buffer(stranger->bytes.data() + have, total - have),
                   [this, stranger, next](const AsioError& error, std::size_t /*bytes*/) {
                     if (error == asio::error::operation_aborted) return;  // dropped
                     if (error) return drop(stranger, error.message(), false);
                     (this->*next)(stranger);
                   });
}

void SocketListener::sniff(const StrangerPtr& stranger) {
  const bool ours = starts_with(stranger->bytes, kMagic, kSniffBytes);
  if (ours && settings_.dialect == Settings::Dialect::qemu)
    return drop(stranger, "it is a ramferry, and dialect=qemu was asked for", true);
  if (ours) return read_more(stranger, kPreamblePrefix, &SocketListener::read_size);
  if (starts_with(stranger->bytes, kMultifdMagic)) {
    if (settings_.channels > 0) return read_more(stranger, kMultifdHelloBytes, &SocketListener::read_channel);
    return drop(stranger,
                "it is a channel of QEMU's multifd; add the option channels=N to this address, or switch the "
                "source's multifd off",
                false);
  }
  if (!starts_with(stranger->bytes, kQemuMagic))
    return drop(stranger, "its first bytes are neither ours nor QEMU's", false);
  if (settings_.dialect == Settings::Dialect::native)
    return drop(stranger, "it is a QEMU, and dialect=native was asked for", false);
  if (settings_.channels > 0) return take_main(stranger);
  std::vector<std::byte> first = std::move(stranger->bytes);
  UniqueFd socket = let_go(stranger);
  if (prepare_socket(socket.get(), settings_))
    hand_out(std::make_unique<SocketStream>(std::move(socket), settings_.peer_timeout, std::move(first)));
}

void SocketListener::read_size(const StrangerPtr& stranger) {
  const auto size = decode_preamble_size(std::span<const std::byte, kPreamblePrefix>(stranger->bytes));
  if (!size) return drop(stranger, size.error().message(), true);
  read_more(stranger, *size, &SocketListener::read_hello);
}

void SocketListener::read_hello(const StrangerPtr& stranger) {
  const Result<Preamble> hello = decode_preamble(stranger->bytes);
  if (!hello) return drop(stranger, hello.error().message(), true);
  if (hello->kind == PreambleKind::side) return take_side(stranger, *hello);
  if (hello->kind != PreambleKind::hello) return drop(stranger, "it answered before it was asked", true);
  const std::uint64_t bytes = stranger->bytes.size();
  gather(let_go(stranger), *hello, bytes);
}

UniqueFd SocketListener::let_go(const StrangerPtr& stranger) {
  stranger->patience.cancel();
  strangers_.remove(stranger);
  return UniqueFd(stranger->socket.release());
}

void SocketListener::drop(const StrangerPtr& stranger, const std::string& why, bool tell) {
  const StrangerPtr keep = stranger;  // the argument may be an element of strangers_
  log_.warn("a connection from " + keep->from + " is turned away: " + why);
  const UniqueFd socket = let_go(keep);
  if (tell) refuse(socket.get(), why);
}

}  // namespace ramferry::tcp
