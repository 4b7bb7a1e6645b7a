// SPDX-License-Identifier: MIT
// Two channels joined in one process: the whole contract of Channel without a transport.
//
// Each end has a thread that takes in what the other sent. Between fences it does so in an order drawn from
// the seed: placements overtake each other and the bytes around them, as they may on a fabric. Memory that
// was not lent and prepared is copied when it is placed, and counted, as a transport that registers memory
// would.
#pragma once

#include "support/channel_pair.hpp"

#include <cstddef>
#include <cstdint>

namespace ramferry::test {

struct LoopbackOptions {
  SessionId session = SessionId::random();
  std::size_t buffer_bytes = 256 << 10;  ///< sent and not yet received; then send() blocks
  std::size_t queue_depth = 256;  ///< placements and zero runs on their way; then place() and zero() block
  std::uint64_t seed = 1;         ///< draws the order between fences
};

/// The destructor of either end waits while a landing of the other takes in what this end placed.
ChannelPair make_loopback_pair(const LoopbackOptions& options = {});

}  // namespace ramferry::test
