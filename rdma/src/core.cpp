// SPDX-License-Identifier: MIT
#include "core.hpp"

#include <chrono>
#include <utility>

namespace ramferry::rdma {

void Counter::raise_to(std::uint64_t amount) noexcept {
  std::uint64_t seen = get();
  while (seen < amount && !value_.compare_exchange_weak(seen, amount, std::memory_order_relaxed)) continue;
}

StreamStats Counters::snapshot() const noexcept {
  StreamStats stats;
  stats.message_bytes_sent = message_bytes_sent.get();
  stats.message_bytes_received = message_bytes_received.get();
  stats.placed_bytes_sent = placed_bytes_sent.get();
  stats.placed_bytes_received = placed_bytes_received.get();
  stats.zero_bytes_sent = zero_bytes_sent.get();
  stats.zero_bytes_received = zero_bytes_received.get();
  stats.wire_bytes_sent = wire_bytes_sent.get();
  stats.wire_bytes_received = wire_bytes_received.get();
  stats.copied_bytes = copied_bytes.get();
  stats.system_calls = system_calls.get();
  stats.work_requests = work_requests.get();
  stats.doorbells = doorbells.get();
  stats.completions = completions.get();
  stats.fences = fences.get();
  stats.pinned_bytes = pinned_bytes.get();
  stats.peak_pinned_bytes = peak_pinned_bytes.get();
  return stats;
}

PinnedRegion::PinnedRegion(std::unique_ptr<Region> region, Bytes memory, Counters& counters) noexcept
    : region_(std::move(region)), memory_(memory), counters_(counters) {
  counters_.pinned_bytes.add(memory_.size());
  counters_.peak_pinned_bytes.raise_to(counters_.pinned_bytes.get());
}

PinnedRegion::~PinnedRegion() {
  region_.reset();
  counters_.pinned_bytes.subtract(memory_.size());
}

Core::Core(Log& log_to, const Options& chosen, std::unique_ptr<Domain> on)
    : log(log_to), options(chosen), domain(std::move(on)), plan(plan_pinning(options, domain->device())) {}

Result<std::unique_ptr<PinnedRegion>> Core::pin(Bytes memory, Rights rights, std::uint64_t base) {
  auto region = domain->register_memory(memory, rights, base);
  if (region) return std::make_unique<PinnedRegion>(std::move(*region), memory, counters);
  Error error = std::move(region).error();
  error.doing += ", " + format_size(counters.pinned_bytes.get()) + " are registered already";
  return Failure(std::move(error));
}

void Core::fail_with(Error error) {
  if (!failure) failure = std::move(error);
  changed.notify_all();
  arrived.notify_all();
  work.notify_all();
  domain->wake();
}

Result<> Core::check(std::string_view doing) const {
  if (!failure) return {};
  return within(*failure, doing);
}

void Core::wait_once(std::condition_variable& on, Lock& lock, Deadline deadline) {
  if (deadline.is_never())
    on.wait(lock);
  else
    on.wait_until(lock, deadline.when());
}

}  // namespace ramferry::rdma
