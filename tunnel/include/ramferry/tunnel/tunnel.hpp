// SPDX-License-Identifier: MIT
// Carries byte streams through a channel: plain sockets at both ends, ramferry's transport in the middle.
//
// One session is one channel with any number of streams in it, each full duplex with half-close and
// back-pressure. Every direction of a stream has a ring at the sender and its mirror at the receiver: bytes
// are read from the plain socket into the ring, placed into the mirror (RDMA: written by the device, no
// copy), and written from there to the plain socket. A ring holds at most Options::ring_bytes, and that is
// all that is ever buffered.
//
// When the channel breaks, every plain socket is closed; when a plain socket fails, its other end is closed,
// and the other streams go on. The messages are documented in docs/protocol-tunnel.md.
#pragma once

#include <ramferry/channel.hpp>
#include <ramferry/log.hpp>

#include <cstdint>
#include <functional>
#include <memory>

namespace ramferry::tunnel {

struct Options {
  std::uint32_t ring_bytes = 1 << 20;  ///< per direction of a stream, at each end; both ends must agree
  std::uint32_t most_streams = 64;     ///< at once; one more is refused
};

struct Stats {
  std::uint64_t streams_opened = 0, streams_failed = 0;
  std::uint64_t bytes_in = 0;   ///< read from plain sockets
  std::uint64_t bytes_out = 0;  ///< written to plain sockets
  std::uint32_t open_now = 0;
};

/// Makes the plain connection behind a stream that the other end opened. Called on a thread of the stream.
using Dial = std::function<Result<std::unique_ptr<ByteStream>>()>;

/// One end of a session. Owns the channel; `log` outlives it. All calls from any thread.
class Session {
 public:
  /// The end that only opens streams passes an empty `dial`.
  Session(std::unique_ptr<Channel> fabric, Options options, Dial dial, Log& log);
  /// Cancels, and waits for its threads.
  ~Session();

  /// Carries `plain` as a new stream. Returns before the other end has dialled.
  Result<> open(std::unique_ptr<ByteStream> plain);
  /// Serves until the other end finishes (success) or the channel fails. Call it once, on a thread of its
  /// own.
  Result<> run();
  /// Waits until at least one stream was opened and all have ended; errc::timed_out if that does not happen.
  Result<> wait_until_idle(Deadline deadline);
  /// No stream will be opened here any more; the other end's run() returns success. Call it when idle.
  Result<> finish(Deadline deadline);
  void cancel() noexcept;
  Stats stats() const;
  StreamStats fabric_stats() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ramferry::tunnel
