// SPDX-License-Identifier: MIT
// One stream of a tunnel session: its plain connection, its two rings, and two pumping threads.
#pragma once

#include "messages.hpp"
#include "ring.hpp"

#include <ramferry/channel.hpp>
#include <ramferry/log.hpp>
#include <ramferry/tunnel/tunnel.hpp>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace ramferry::tunnel {

/// The rings of one stream number. They outlive streams: a number that is used again keeps its slot.
struct Rings {
  explicit Rings(RingMemory incoming, RingMemory outgoing)
      : in(std::move(incoming)),
        out(std::move(outgoing)),
        landing(in.bytes(), MemoryLanding::Content::unknown) {}
  RingMemory in, out;
  MemoryLanding landing;
  bool lent = false;
};

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
  /// `plain` may be empty: then `dial` makes it. Starts the threads.
  Stream(std::uint32_t number, Rings& rings, Uplink& uplink, std::unique_ptr<ByteStream> plain, Dial dial);
  /// Waits for the threads; abort() first.
  ~Stream();

  // What the other end says; errors are violations of the protocol. Called by the session's thread.
  Result<> on_opened();
  Result<> on_data(std::uint32_t bytes);
  Result<> on_credit(std::uint32_t bytes);
  Result<> on_end();
  void on_reset();
  Result<> on_closed();

  /// Both ends are done: the number may be used again.
  bool over() const;
  /// Ends it without a word to the other end.
  void abort() noexcept;

 private:
  void serve(std::unique_ptr<ByteStream> plain, const Dial& dial);
  Result<> pump_in();   ///< plain → channel
  Result<> pump_out();  ///< channel → plain
  Bytes wait_for_space();
  Bytes wait_for_bytes();
  bool settle_up_to(std::uint64_t position);
  /// The plain side failed: tells the other end, once.
  void reset(const Error& error) noexcept;

  const std::uint32_t number_;
  Rings& rings_;
  Uplink& uplink_;

  mutable std::mutex mutex_;
  std::condition_variable sendable_;  ///< what pump_in waits for, or its end
  std::condition_variable arriving_;  ///< and pump_out
  std::unique_ptr<ByteStream> plain_;
  bool opened_ = false;      ///< the peer's ring is exposed
  bool aborted_ = false;     ///< stop pumping
  bool peer_ended_ = false;  ///< no more data will arrive
  bool we_closed_ = false, peer_closed_ = false;
  std::uint64_t sent_ = 0, credited_ = 0;    ///< positions in the outgoing ring
  std::uint64_t arrived_ = 0, written_ = 0;  ///< positions in the incoming ring
  struct InFlight {
    std::uint64_t end;
    Epoch epoch;
  };
  std::deque<InFlight> in_flight_;  ///< of the outgoing ring; pump_in's thread only
  std::uint64_t settled_ = 0;       ///< how far the fences have; as in_flight_
  std::thread thread_;
};

}  // namespace ramferry::tunnel
