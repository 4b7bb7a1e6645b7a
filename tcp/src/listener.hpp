// SPDX-License-Identifier: MIT
// Takes connections, finds out who is there, and puts the lanes of a session together.
//
// All of it happens inside accept(), on the caller's thread: several strangers are being read at once, each
// with its own deadline, so that one who says nothing holds up nobody.
#pragma once

#include "asio.hpp"
#include "preamble.hpp"
#include "side_door.hpp"
#include "socket.hpp"

#include <ramferry/transport.hpp>
#include <ramferry/unique_fd.hpp>

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ramferry::tcp {

class SocketListener final : public Listener {
 public:
  /// Strangers that are read at once; with one more the oldest is dropped. Sessions whose lanes are gathered.
  static constexpr std::size_t kMostStrangers = 128, kMostGatherings = 32;

  static Result<std::unique_ptr<Listener>> open(const Endpoint& at, const Settings& settings, Log& log);
  SocketListener(Endpoint at, const Settings& settings, Log& log);
  SocketListener(const SocketListener&) = delete;
  SocketListener& operator=(const SocketListener&) = delete;
  ~SocketListener() override;

  Endpoint local() const override { return local_; }
  Result<Link> accept(Deadline deadline) override;
  void cancel() noexcept override;

 private:
  /// A connection of which it is not known yet what it will be.
  struct Stranger {
    Stranger(asio::io_context& context, UniqueFd fd, std::string address)
        : socket(context, fd.release()), patience(context), from(std::move(address)) {}
    asio::posix::stream_descriptor socket;
    asio::steady_timer patience;
    std::vector<std::byte> bytes;  ///< what it said so far
    std::string from;
  };
  struct Gathering;
  struct Bundling;
  using StrangerPtr = std::shared_ptr<Stranger>;
  using SessionKey = std::array<std::byte, 16>;

  Result<> bind(const std::vector<AsioEndpoint>& addresses);
  Result<> bind_to(const AsioEndpoint& address);
  Result<> clear_stale_path(const AsioEndpoint& address);
  void remember_path();

  void expect_connection();
  void take_connections();
  void greet(UniqueFd socket);
  void read_more(const StrangerPtr& stranger, std::size_t total,
                 void (SocketListener::*next)(const StrangerPtr&));
  void sniff(const StrangerPtr& stranger);
  void read_size(const StrangerPtr& stranger);
  void read_hello(const StrangerPtr& stranger);
  UniqueFd let_go(const StrangerPtr& stranger);
  void drop(const StrangerPtr& stranger, const std::string& why, bool tell);

  void gather(UniqueFd socket, const Preamble& hello, std::uint64_t bytes);
  Gathering* gathering_for(const Preamble& hello, std::string& refusal);
  void complete(Gathering& gathering);
  void give_up(const SessionKey& session, const std::string& why);
  void refuse(int fd, const std::string& why);
  std::shared_ptr<SideDoor> make_door(const SessionKey& session);
  void take_side(const StrangerPtr& stranger, const Preamble& hello);

  void read_channel(const StrangerPtr& stranger);
  void take_main(const StrangerPtr& stranger);
  Bundling& bundling_now();
  void bundle_if_complete();

  void hand_out(Link link);

  const Settings settings_;
  Log& log_;
  Endpoint local_;
  std::atomic<bool> cancelled_ = false;
  dev_t path_device_ = 0;
  ino_t path_inode_ = 0;

  asio::io_context context_;  ///< before all that belongs to it
  asio::basic_socket_acceptor<asio::generic::stream_protocol> acceptor_{context_};
  asio::steady_timer retry_{context_};
  std::optional<Error> broken_;
  std::list<StrangerPtr> strangers_;  ///< oldest first
  std::map<SessionKey, Gathering> gatherings_;
  std::map<SessionKey, std::weak_ptr<SideDoor>> doors_;  ///< of the channels made here
  std::unique_ptr<Bundling> bundling_;
  std::deque<Link> ready_;
};

}  // namespace ramferry::tcp
