// SPDX-License-Identifier: MIT
// The verbs seam: what the channel needs of an RDMA device and its connection manager, and no more.
//
// VerbsFabric implements it with libibverbs and librdmacm; the tests have a model of it that reorders, delays
// and fails by seed. Calls are per list of work, never per work request, so the seam costs nothing on the
// data path.
//
// Threads: a Domain's poll, wait, next_event and connect belong to one thread at a time; register_memory,
// wake and regions to any. A QueuePair is posted to by one thread at a time per direction; to_error() by any.
// Ownership: regions and queue pairs are destroyed before their domain, the domain before its fabric.
#pragma once

#include "fabric_error.hpp"

#include <ramferry/bytes.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ramferry::rdma {

struct Address {
  std::string host;
  std::uint16_t port = 0;
};

/// How the connections of one link behave.
struct LinkTuning {
  std::string device;             ///< only this one; empty: whichever leads there
  std::uint8_t ack_timeout = 16;  ///< 4.096 us * 2^n until a packet is sent again
  std::uint8_t retries = 6;       ///< of a packet; 7 would mean for ever on some devices
};

/// How many of each a queue pair may have outstanding.
struct QueueShape {
  std::uint32_t sends = 0, receives = 0;
};

/// The least that works: we read it, we receive into it, or the peer writes it.
enum class Rights : std::uint8_t { read, receive_into, remote_write };

/// Registered memory; gives it up when destroyed.
class Region {
 public:
  virtual ~Region() = default;
  virtual std::uint32_t local_key() const noexcept = 0;
  virtual std::uint32_t remote_key() const noexcept = 0;
};

struct WorkRequest {
  enum class Kind : std::uint8_t { write, send };
  Kind kind = Kind::write;
  bool signaled = false;  ///< report success too; failure is always reported
  const std::byte* local = nullptr;
  std::uint32_t length = 0, local_key = 0;
  std::uint64_t remote_address = 0;  ///< writes: within the peer's region, counted from its base
  std::uint32_t remote_key = 0;
  std::uint64_t id = 0;
};

struct Receive {
  std::byte* into = nullptr;
  std::uint32_t length = 0, local_key = 0;
  std::uint64_t id = 0;
};

struct Completion {
  std::uint64_t id = 0;
  std::uint32_t bytes = 0;  ///< receives
  std::error_code error;
};

/// How much of a list was taken; with an error, the rest was not.
struct Posted {
  std::size_t count = 0;
  std::error_code error;
};

class QueuePair {
 public:
  virtual ~QueuePair() = default;
  /// In order. std::errc::not_enough_memory: the queue is full, try the rest later.
  virtual Posted post(std::span<const WorkRequest> list) noexcept = 0;
  virtual Posted post_receives(std::span<const Receive> list) noexcept = 0;
  /// Nothing is sent or taken in any more; what was posted completes as flushed.
  virtual void to_error() noexcept = 0;
  /// Tells the peer, and to_error().
  virtual void disconnect() noexcept = 0;
};

struct DeviceFacts {
  std::string name, gid;
  std::uint32_t mtu = 0;  ///< bytes, of the path
  std::uint64_t max_region_bytes = ~0ULL;
  std::uint64_t max_regions = ~0ULL;
  std::uint32_t max_queue_depth = 16384;
  std::uint64_t lockable_bytes = ~0ULL;  ///< RLIMIT_MEMLOCK, unless we are exempt
};

/// Something happened outside the completion queue. Every one of them ends the link.
struct LinkEvent {
  std::error_code error;
  std::string what;
  bool connection_lost = true;  ///< false: the peer can still be told
};

struct Connected {
  std::unique_ptr<QueuePair> queue;  ///< null: the peer's program refused, and `answer` may say why
  std::vector<std::byte> answer;     ///< the peer's private data; may have trailing zeros
};

/// A connection to be made, and what is said and posted before it is.
struct Dial {
  QueueShape shape;
  std::span<const Receive> receives;
  ConstBytes hello;
};

/// What one session has on one device: a protection domain, a completion queue, its connections.
class Domain {
 public:
  virtual ~Domain() = default;
  virtual const DeviceFacts& device() const noexcept = 0;

  /// The peer, given the right, addresses the memory from `base`, whose offset within a page is that of
  /// `memory`. errc::memory_lock_limit if a limit forbids it.
  virtual Result<std::unique_ptr<Region>> register_memory(Bytes memory, Rights rights,
                                                          std::uint64_t base) = 0;

  /// Further connections to the peer that this domain was opened for, in the order of `dials`. They are made
  /// at once: a handshake takes many turns of either end, and hardly any of their time. If one fails, all do.
  virtual Result<std::vector<Connected>> connect_all(std::span<const Dial> dials, Deadline deadline) = 0;
  /// One more.
  Result<Connected> connect(QueueShape shape, std::span<const Receive> receives, ConstBytes hello,
                            Deadline deadline) {
    const Dial dial{shape, receives, hello};
    auto connected = connect_all({&dial, 1}, deadline);
    if (!connected) return Failure(std::move(connected).error());
    return std::move(connected->front());
  }

  /// Takes what has completed; does not wait.
  virtual Result<std::size_t> poll(std::span<Completion> into) = 0;
  virtual std::optional<LinkEvent> next_event() = 0;
  /// Accepted connections that the peer has confirmed so far, as wait() has seen: what is sent on them
  /// arrives.
  virtual std::size_t confirmed() const noexcept = 0;
  /// Sleeps until there is something to poll, an event, a confirmation, wake() was called, or the deadline.
  virtual void wait(Deadline deadline) = 0;
  virtual void wake() noexcept = 0;
};

/// A connection that waits for our answer. Refused if destroyed without one.
class ConnectRequest {
 public:
  virtual ~ConnectRequest() = default;
  virtual ConstBytes hello() const noexcept = 0;
  virtual std::string from() const = 0;
  /// A domain on the device it came in by. `completions`: how many may wait to be polled.
  virtual Result<std::unique_ptr<Domain>> open_domain(std::uint32_t completions) = 0;
  /// Returns at once; the link is up when the peer's first message arrives. errc::unsupported if it came in
  /// by another device than the domain's. Once only, also if it fails.
  virtual Result<std::unique_ptr<QueuePair>> accept(Domain& domain, QueueShape shape,
                                                    std::span<const Receive> receives, ConstBytes answer) = 0;
  /// Nothing, if it was accepted or refused already.
  virtual void reject(ConstBytes answer) noexcept = 0;
};

class Acceptor {
 public:
  virtual ~Acceptor() = default;
  virtual Address local() const = 0;
  /// The next request; null after wake(). errc::timed_out.
  virtual Result<std::unique_ptr<ConnectRequest>> next(Deadline deadline) = 0;
  virtual void wake() noexcept = 0;
};

class Fabric {
 public:
  virtual ~Fabric() = default;
  /// Is there a device with an active port? If not: why, and what would help.
  virtual Result<> probe() const = 0;
  /// On the device that leads there; nothing is sent to the peer yet.
  virtual Result<std::unique_ptr<Domain>> open_towards(const Address& to, const LinkTuning& tuning,
                                                       std::uint32_t completions, Deadline deadline) = 0;
  virtual Result<std::unique_ptr<Acceptor>> listen(const Address& at, const LinkTuning& tuning) = 0;
};

}  // namespace ramferry::rdma
