// SPDX-License-Identifier: MIT
// The plain loop of RDMA writes, with its memory and its report. errc::unsupported in a build without RDMA.
#pragma once

#include "bench/report.hpp"

#include <ramferry/error.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace ramferry::cli {

struct VerbsBenchPlan {
  std::uint64_t bytes = 1 << 30;
  std::uint64_t extent = 1 << 20, stride = 1 << 20, window = 4 << 20;
  std::uint32_t queue_pairs = 4, list = 64;
  unsigned repeats = 3;
};

Result<BenchReport> run_verbs_bench(const std::string& uri, const VerbsBenchPlan& plan);

/// Until `stop` is true; it is told how many peers were served.
Result<> serve_verbs_bench(const std::string& uri, std::uint64_t most_bytes,
                           const std::function<bool(unsigned peers)>& stop);

}  // namespace ramferry::cli
