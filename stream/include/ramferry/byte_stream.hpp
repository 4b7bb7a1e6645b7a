// SPDX-License-Identifier: MIT
// Ordered bytes between two ends: all that a peer who speaks plain QEMU streams needs.
//
// Threads: one sending and one receiving thread at a time, which may be the same; cancel() and stats() from
// any.
//
// Failure: once a call failed with anything but errc::timed_out on receive (or a channel's settle), no more
// can be sent; what arrived before the failure is still received first, so that a peer's last words (why it
// failed) are heard. A stream that is cancelled, or destroyed without finish, fails the other end's calls
// with errc::peer_gone in bounded time, where the medium can tell.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ramferry {

/// Monotonic counters of one stream or channel. Bytes unless a name says otherwise.
struct StreamStats {
  std::uint64_t message_bytes_sent = 0, message_bytes_received = 0;  ///< what went through send and receive
  std::uint64_t placed_bytes_sent = 0, placed_bytes_received = 0;    ///< Placement::length, summed
  std::uint64_t zero_bytes_sent = 0, zero_bytes_received = 0;        ///< length of the zero runs
  std::uint64_t wire_bytes_sent = 0, wire_bytes_received = 0;  ///< with headers; a write under way may lag
  std::uint64_t copied_bytes =
      0;  ///< placed bytes that this end's CPU copied in user space; 0 is the promise
  std::uint64_t system_calls = 0;   ///< on the data path
  std::uint64_t work_requests = 0;  ///< RDMA: posted
  std::uint64_t doorbells = 0;      ///< RDMA: posting calls
  std::uint64_t completions = 0;    ///< RDMA: polled
  std::uint64_t fences = 0;
  std::uint64_t pinned_bytes = 0, peak_pinned_bytes = 0;  ///< registered now; the most at any time
};

/// What a transport tells about itself: {"device", "rxe0"}, {"lanes", "4"}. For summaries and query-migrate.
using Facts = std::vector<std::pair<std::string, std::string>>;

class ByteStream {
 public:
  virtual ~ByteStream() = default;

  /// Sends all of `bytes`, in order. Blocks while the other end is slow. The caller's again on return.
  virtual Result<> send(ConstBytes bytes) = 0;
  /// At least one byte, at most into.size(); 0 means that the other end finished, and is the answer from then
  /// on. errc::timed_out leaves the stream as it was. What has arrived is returned even if the deadline has
  /// passed.
  virtual Result<std::size_t> receive(Bytes into, Deadline deadline) = 0;
  /// No byte will follow. Returns when all are accepted as durably as the medium can tell: a socket is
  /// half-closed, a file synced and renamed into place, a command has exited with status 0. Bytes of a
  /// channel that finished are not lost when it is destroyed then. The other direction flows on.
  virtual Result<> finish(Deadline deadline) = 0;
  /// Whether a failed finish() proves that nobody has what was sent (the file is not there, the command
  /// failed). With a socket the peer may have read it all.
  virtual bool all_or_nothing() const noexcept { return false; }

  /// Any thread. Pending and later calls return errc::cancelled; a file that was not finished is removed.
  virtual void cancel() noexcept = 0;
  virtual StreamStats stats() const noexcept = 0;
  virtual Facts facts() const { return {}; }

  /// File descriptors that came along with bytes received so far (unix sockets: SCM_RIGHTS), in their order;
  /// they are the caller's from then on. Receiving thread. Those never taken are closed with the stream.
  virtual std::vector<UniqueFd> take_descriptors() { return {}; }
};

/// Fills `into` completely; errc::peer_gone if the stream ends before.
Result<> receive_exactly(ByteStream& from, Bytes into, Deadline deadline);

}  // namespace ramferry
