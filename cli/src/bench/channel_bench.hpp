// SPDX-License-Identifier: MIT
// Placements over any channel, without a migration around them: what a transport itself can do.
//
// One end serves memory of the size that the other asks for, up to a cap; the other places into it over and
// over.
#pragma once

#include "bench/report.hpp"

#include <ramferry/channel.hpp>
#include <ramferry/transport.hpp>

#include <chrono>
#include <functional>

namespace ramferry::cli {

struct ChannelBenchPlan {
  std::uint64_t bytes = 1 << 30;
  std::uint64_t extent = 4 << 20, stride = 4 << 20;
  unsigned repeats = 3;
  bool cold = false;  ///< the peer does not touch its memory first
};

/// errc::invalid_argument unless the plan makes sense.
Result<> check(const ChannelBenchPlan& plan);

Result<BenchReport> run_channel_bench(const TransportCatalog& catalog, const std::string& uri,
                                      const ChannelBenchPlan& plan);

/// Serves one peer until it has finished. `stopped` is looked at ten times a second.
Result<> serve_channel_bench(std::unique_ptr<Channel> channel, std::uint64_t most_bytes,
                             const std::function<bool()>& stopped);

}  // namespace ramferry::cli
