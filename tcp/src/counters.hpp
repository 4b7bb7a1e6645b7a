// SPDX-License-Identifier: MIT
// The statistics of a channel or stream while its threads run.
#pragma once

#include <ramferry/byte_stream.hpp>

#include <atomic>
#include <cstdint>

namespace ramferry::tcp {

/// Monotonic and relaxed: each is exact, together they are a snapshot only when nothing moves.
struct Counters {
  using Counter = std::atomic<std::uint64_t>;
  Counter message_bytes_sent = 0, message_bytes_received = 0;
  Counter placed_bytes_sent = 0, placed_bytes_received = 0;
  Counter zero_bytes_sent = 0, zero_bytes_received = 0;
  Counter wire_bytes_sent = 0, wire_bytes_received = 0;
  Counter copied_bytes = 0, system_calls = 0, fences = 0;

  static void add(Counter& counter, std::uint64_t amount) noexcept {
    counter.fetch_add(amount, std::memory_order_relaxed);
  }
  StreamStats snapshot() const noexcept {
    StreamStats stats;
    const auto read = [](const Counter& counter) { return counter.load(std::memory_order_relaxed); };
    stats.message_bytes_sent = read(message_bytes_sent);
    stats.message_bytes_received = read(message_bytes_received);
    stats.placed_bytes_sent = read(placed_bytes_sent);
    stats.placed_bytes_received = read(placed_bytes_received);
    stats.zero_bytes_sent = read(zero_bytes_sent);
    stats.zero_bytes_received = read(zero_bytes_received);
    stats.wire_bytes_sent = read(wire_bytes_sent);
    stats.wire_bytes_received = read(wire_bytes_received);
    stats.copied_bytes = read(copied_bytes);
    stats.system_calls = read(system_calls);
    stats.fences = read(fences);
    return stats;
  }
};

}  // namespace ramferry::tcp
