// SPDX-License-Identifier: MIT
// What `ramferry bench` tells: as a table for people, as JSON for programs.
#pragma once

#include <ramferry/byte_stream.hpp>

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ramferry::cli {

struct CpuTime {
  double user = 0, system = 0;  ///< seconds
  static CpuTime of_this_process() noexcept;
  CpuTime operator-(const CpuTime& other) const noexcept {
    return {user - other.user, system - other.system};
  }
};

struct BenchRun {
  double seconds = 0;
  std::uint64_t bytes = 0;
  CpuTime source;
  std::optional<CpuTime> destination;
  StreamStats counted;  ///< what this run added to the counters of the source
};

struct BenchReport {
  std::string what;  ///< "placements", "verbs loop"
  std::string uri;
  std::uint64_t bytes = 0, extent = 0, stride = 0;
  std::vector<std::pair<std::string, double>> setup;  ///< a name and seconds
  std::uint64_t pinned = 0, destination_pinned = 0;
  Facts facts;
  std::vector<BenchRun> runs;
};

nlohmann::json to_json(const BenchReport& report);
std::string to_text(const BenchReport& report);

}  // namespace ramferry::cli
