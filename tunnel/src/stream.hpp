// SPDX-License-Identifier: MIT
// One stream of a tunnel session: its plain connection and two pumping threads. How its bytes reach the
// other end is the derived classes' business: through rings (ring_stream.hpp) or beside the channel
// (side_stream.hpp).
#pragma once

#include "messages.hpp"

#include <ramferry/channel.hpp>
#include <ramferry/log.hpp>
#include <ramferry/tunnel/tunnel.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace ramferry::tunnel {

inline constexpr std::chrono::seconds kSettleTimeout{30};

/// The session's half of the work: sending, one at a time, and hearing of failures. Thread-safe.
class Uplink {
 public:
  Uplink(Channel& channel, Log& log) noexcept : channel_(channel), log_(log) {}
  Result<> send(const Message& message);
  Result<> lend(std::uint32_t stream, ConstBytes ring);
  /// Places `bytes` into the peer's ring of `stream` and announces them.
  Result<Epoch> put(std::uint32_t stream, std::uint64_t offset, ConstBytes bytes);
  Result<> settle(Epoch epoch);
  /// Every pumping thread that meets a broken channel reports it here; the first is the session's error.
  void broke(const Error& error) noexcept;
  /// Sends, or reports why not.
  void tell(const Message& message) noexcept;
  Log& log() noexcept { return log_; }

  std::atomic<std::uint64_t> bytes_in{0}, bytes_out{0}, failed_streams{0};
  std::mutex error_mutex;
  std::optional<Error> first_error;

 private:
  Channel& channel_;
  Log& log_;
  std::mutex sending_;
};

class Stream {
 public:
  /// `plain` may be empty: then `dial` makes it.
  Stream(std::uint32_t number, Uplink& uplink, std::unique_ptr<ByteStream> plain, Dial dial) noexcept
      : number_(number), uplink_(uplink), plain_(std::move(plain)), dial_(std::move(dial)) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  /// The derived destructor waits for the threads with join(); abort() first.
  virtual ~Stream() = default;

  // What the other end says; errors are violations of the protocol. Called by the session's thread.
  virtual Result<> on_opened() { return no_ring(); }
  virtual Result<> on_data(std::uint32_t /*bytes*/) { return no_ring(); }
  virtual Result<> on_credit(std::uint32_t /*bytes*/) { return no_ring(); }
  Result<> on_end();
  void on_reset();
  Result<> on_closed();

  /// Both ends are done: the number may be used again.
  bool over() const;
  /// Ends it without a word to the other end.
  void abort() noexcept;

 protected:
  /// The threads. Called at the end of the derived constructor and at the beginning of its destructor.
  void start() {
    thread_ = std::thread([this] { serve(); });
  }
  void join() { thread_.join(); }

  bool dials() const noexcept { return dial_ != nullptr; }

  // What differs. All but on_abort() on the stream's own threads, the plain connection being there.
  virtual Result<> prepare() { return {}; }
  virtual Result<> pump_in() = 0;   ///< plain → other end
  virtual Result<> pump_out() = 0;  ///< other end → plain
  virtual void wind_up() noexcept {}
  virtual void on_abort() noexcept {}  ///< mutex_ is held

  const std::uint32_t number_;
  Uplink& uplink_;

  mutable std::mutex mutex_;
  std::condition_variable sendable_;  ///< what pump_in waits for, or its end
  std::condition_variable arriving_;  ///< and pump_out
  std::unique_ptr<ByteStream> plain_;
  bool aborted_ = false;     ///< stop pumping
  bool peer_ended_ = false;  ///< no more data will arrive

 private:
  Result<> no_ring() const;
  void serve();
  Result<> connect();
  void pump();
  void note_closed();
  /// It failed here: tells the other end, once.
  void reset(const Error& error) noexcept;

  Dial dial_;
  bool we_closed_ = false, peer_closed_ = false;
  std::thread thread_;
};

}  // namespace ramferry::tunnel
