// SPDX-License-Identifier: MIT
// What may follow the '?' of an rdma: address.
#pragma once

#include "fabric.hpp"

#include <ramferry/endpoint.hpp>

#include <chrono>
#include <cstdint>
#include <span>

namespace ramferry::rdma {

enum class Pin : std::uint8_t { all, demand };
enum class Dialect : std::uint8_t { automatic, native, qemu };

struct Options {
  Dialect dialect = Dialect::automatic;
  Pin pin = Pin::all;
  std::uint64_t pin_budget = 0;  ///< pin=demand: registered at most; 0: what the limits suggest
  std::uint32_t lanes = 4;       ///< the connecting end decides
  std::uint64_t chunk = 16ULL << 20;
  std::uint64_t window = 4ULL << 20;  ///< bytes posted and not completed, per lane
  std::chrono::milliseconds peer_timeout{10'000};
  std::chrono::milliseconds making_time{10'000};  ///< a listener forgets what takes longer to connect
  LinkTuning link;
};

inline constexpr std::uint32_t kMostLanes = 64;
inline constexpr std::uint64_t kLeastPeerTimeout = 1, kMostPeerTimeout = 3600;  ///< seconds

std::span<const OptionSpec> option_specs() noexcept;
Result<Options> parse_options(const Endpoint& endpoint);

/// How much may be registered at a time under pin=demand, and in which pieces, on this device.
struct PinPlan {
  std::uint64_t budget = ~0ULL;
  std::uint64_t chunk = 0;
  std::uint64_t staging = 4ULL << 20;  ///< beside the budget
};
PinPlan plan_pinning(const Options& options, const DeviceFacts& device) noexcept;

}  // namespace ramferry::rdma
