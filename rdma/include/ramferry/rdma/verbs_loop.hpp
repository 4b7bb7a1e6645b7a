// SPDX-License-Identifier: MIT
// The yardstick for rdma: channels: a plain loop of RDMA writes over registered memory, as tight as verbs
// allow.
//
// No channel, no protocol: one end registers memory and says where it is, the other end writes to it. Lists
// of writes are chained, the last of each list is signalled, and a window of bytes is in flight on each queue
// pair.
//
// Memory belongs to the caller and outlives the call. Each call blocks the calling thread.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/bytes.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/error.hpp>

#include <cstdint>
#include <functional>
#include <vector>

namespace ramferry {

struct VerbsLoopPlan {
  std::uint64_t extent = 1 << 20;  ///< bytes of one write
  std::uint64_t stride = 1 << 20;  ///< from the start of one write to that of the next; at least `extent`
  std::uint32_t queue_pairs = 1;   ///< 1-64
  std::uint32_t list = 64;  ///< writes per doorbell at most, 1-64; fewer where they would fill the window
  std::uint64_t window = 4 << 20;  ///< bytes posted and not completed, per queue pair
  unsigned repeats = 1;
};

struct VerbsLoopRun {
  double seconds = 0;  ///< from the first post to the last completion
  std::uint64_t bytes = 0, work_requests = 0, doorbells = 0, completions = 0;
};

struct VerbsLoopReport {
  double connect_seconds = 0, register_seconds = 0;
  std::vector<VerbsLoopRun> runs;
  Facts facts;
};

/// Called before and after each repetition, for those who measure something around it.
using VerbsLoopStep = std::function<void()>;

/// Writes from `memory`, which is touched already, to as much of the peer's.
Result<VerbsLoopReport> run_verbs_loop(const Endpoint& to, Bytes memory, const VerbsLoopPlan& plan,
                                       const VerbsLoopStep& step, Deadline connect_until);

struct VerbsLoopHost {
  /// Memory for a peer that asks for this much; touched. An error refuses the peer.
  std::function<Result<Bytes>(std::uint64_t bytes)> memory;
  /// A peer could not be served; the next one is awaited.
  std::function<void(const Error& why)> problem;
  /// Told where it listens; port 0 asks for a free one.
  std::function<void(const Endpoint& at)> listening;
  /// Looked at ten times a second, and after each peer that has left.
  std::function<bool(unsigned served)> stop;
};

/// Lets one peer after another write.
Result<> serve_verbs_loop(const Endpoint& at, const VerbsLoopHost& host);

}  // namespace ramferry
