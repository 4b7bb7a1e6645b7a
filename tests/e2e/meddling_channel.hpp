// SPDX-License-Identifier: MIT
// A channel between the migration and the real one, through which a test cuts the link, holds it up, or
// spoils what goes through.
#pragma once

#include "support/channel_pair.hpp"

#include <ramferry/channel.hpp>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

namespace ramferry::test {

enum class End : std::uint8_t { source, destination };

/// Shared by the two ends of one channel; any thread. Calls are numbered from 1 at each end; a receive counts
/// when it brings bytes.
struct Meddling {
  End cut_end = End::source;
  std::uint64_t cut_at = 0;  ///< the call that fails, and the link with it; 0 = none
  bool cut_after = false;    ///< the call itself still happens

  End stuck_end = End::source;
  std::uint64_t stuck_at = 0;  ///< the call that does not return until it is cancelled; 0 = none

  /// May change what is placed, or drop it; at the source.
  std::function<void(std::vector<Placement>&)> placements;
  std::function<void(std::vector<ZeroRun>&)> zeros;

  std::atomic<std::uint64_t> calls[2] = {0, 0};
  std::atomic<bool> cut = false, stuck = false;
};

/// Puts `meddling` into both ends.
ChannelPair meddle(ChannelPair pair, std::shared_ptr<Meddling> meddling);

}  // namespace ramferry::test
