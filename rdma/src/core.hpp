// SPDX-License-Identifier: MIT
// What the parts of one channel share: the lock, the failure, the counters and the domain.
//
// One mutex guards all state of a channel; only the posting of data, registering and landings run outside it.
#pragma once

#include "fabric.hpp"
#include "options.hpp"

#include <ramferry/byte_stream.hpp>
#include <ramferry/log.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace ramferry::rdma {

using Lock = std::unique_lock<std::mutex>;

/// A statistic: written by whoever, read by anybody.
class Counter {
 public:
  void add(std::uint64_t amount) noexcept { value_.fetch_add(amount, std::memory_order_relaxed); }
  void subtract(std::uint64_t amount) noexcept { value_.fetch_sub(amount, std::memory_order_relaxed); }
  void raise_to(std::uint64_t amount) noexcept;
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

struct Counters {
  Counter message_bytes_sent, message_bytes_received, placed_bytes_sent, placed_bytes_received;
  Counter zero_bytes_sent, zero_bytes_received, wire_bytes_sent, wire_bytes_received, copied_bytes,
      system_calls;
  Counter work_requests, doorbells, completions, fences, pinned_bytes, peak_pinned_bytes;

  StreamStats snapshot() const noexcept;
};

/// Registered memory that the counters know of.
class PinnedRegion {
 public:
  PinnedRegion(std::unique_ptr<Region> region, Bytes memory, Counters& counters) noexcept;
  ~PinnedRegion();
  PinnedRegion(const PinnedRegion&) = delete;
  PinnedRegion& operator=(const PinnedRegion&) = delete;

  std::uint32_t local_key() const noexcept { return region_->local_key(); }
  std::uint32_t remote_key() const noexcept { return region_->remote_key(); }
  Bytes memory() const noexcept { return memory_; }

 private:
  std::unique_ptr<Region> region_;
  Bytes memory_;
  Counters& counters_;
};

struct Core {
  Core(Log& log_to, const Options& chosen, std::unique_ptr<Domain> on);

  /// Any thread, no lock needed.
  Result<std::unique_ptr<PinnedRegion>> pin(Bytes memory, Rights rights, std::uint64_t base = 0);

  // All of these with the lock held.

  /// The first failure stays; everybody who waits is told.
  void fail_with(Error error);
  /// The failure, told as that of `doing`.
  Result<> check(std::string_view doing) const;
  /// Until `ready` or a failure; errc::timed_out at the deadline.
  template <class Ready>
  Result<> wait_until(Lock& lock, Deadline deadline, std::string_view doing, Ready ready) {
    while (true) {
      RAMFERRY_TRY(check(doing));
      if (ready()) return {};
      if (deadline.passed()) return fail(errc::timed_out, std::string(doing));
      wait_once(changed, lock, deadline);
    }
  }
  /// Until `on` is notified or the deadline.
  static void wait_once(std::condition_variable& on, Lock& lock, Deadline deadline);

  Log& log;
  const Options options;
  Counters counters;
  const std::unique_ptr<Domain> domain;
  const PinPlan plan;
  mutable std::mutex mutex;
  std::condition_variable changed;  ///< room, grants, acknowledgements: for those who send
  std::condition_variable arrived;  ///< bytes: for those who receive
  std::condition_variable work;     ///< for the channel's own threads
  std::optional<Error> failure;
};

}  // namespace ramferry::rdma
