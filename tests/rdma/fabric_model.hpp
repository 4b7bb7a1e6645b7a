// SPDX-License-Identifier: MIT
// A fabric in memory that behaves as badly as the specification allows, by seed.
//
// A thread of its own carries out what was posted, taking queue pairs in random order. A write is
// acknowledged before it is visible; it becomes so at any time, in any order among those of the same queue
// pair, but not after a later send on the same queue pair was received. Nothing orders different queue pairs.
// Keys, ranges and rights are checked as a device checks them; so is that no two writes to the same bytes are
// under way at once.
#pragma once

#include "fabric.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace ramferry::rdma::testing {

struct ModelPlan {
  std::uint64_t seed = 1;
  DeviceFacts device{.name = "model0", .gid = "::ffff:127.0.0.1", .mtu = 4096};

  /// Writes that stay invisible as long as the fabric is free to keep them so.
  bool lazy_writes = true;
  /// Connections are numbered as they are made, from 0 (a session's control connection); this one is carried
  /// out only when no other has anything to do.
  std::optional<unsigned> slow_connection;
  /// The chance that a list is taken only in part.
  double partial_posts = 0;
  /// This registration (1 is the first) fails, by the memory lock limit.
  std::optional<unsigned> failing_registration;
  /// This connection is refused by the device of the end that accepts it.
  std::optional<unsigned> failing_accept;
  /// The end that accepts this connection never hears that it was confirmed.
  std::optional<unsigned> unconfirmed;
  /// Called with the size before each registration, by the thread that makes it; may keep it waiting.
  std::function<void(std::size_t bytes)> before_registration;
  /// What each end may register in all, where the device's facts do not tell it.
  std::uint64_t hidden_limit = ~0ULL;
  /// Registrations that may exist at once, of both ends together.
  std::uint64_t most_regions = ~0ULL;
};

struct ModelCounts {
  std::uint64_t posts = 0, writes = 0, sends = 0, written_bytes = 0, registrations = 0;
  std::uint64_t looks = 0;                      ///< writes of no bytes
  std::uint64_t failed = 0;                     ///< requests that completed with an error
  std::uint64_t regions = 0, region_bytes = 0;  ///< now
  std::uint64_t remotely_writable_bytes = 0;    ///< now
  std::uint64_t connections = 0;                ///< now, ends counted apart
  std::uint64_t collisions = 0;                 ///< writes to bytes that a write under way was for
};

/// What all domains of a model share; keep it until the last of them is gone. Any thread.
class ModelNet {
 public:
  explicit ModelNet(ModelPlan plan = {});
  ~ModelNet();

  std::unique_ptr<Fabric> make_fabric();
  ModelCounts counts() const;

  /// From now on nothing is carried out, as if the link was pulled; what is posted fails after a while.
  void cut();
  /// Posts run out of retries from now on, and the program hears of it.
  void remove_device();
  /// Carries out nothing more on connection `number` without any sign of failure.
  void hang(unsigned number);
  /// The `number`th connection's next operation completes with `error`.
  void fail_next(unsigned number, std::error_code error);
  /// The end that made the `number`th connection hears of `event`, and nothing else happens.
  void report(unsigned number, const LinkEvent& event);
  /// Sees every message on its way, and may change it: a peer that lies.
  using Tamper = std::function<void(unsigned connection, std::vector<std::byte>& message)>;
  void tamper_with(Tamper tamper);

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace ramferry::rdma::testing
