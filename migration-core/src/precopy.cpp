// SPDX-License-Identifier: MIT
#include "outgoing_engine.hpp"

#include <algorithm>
#include <limits>

namespace ramferry::migration {
namespace {

/// Limits and cancellation are looked at this often while sending.
constexpr auto kLook = std::chrono::milliseconds(50);

std::uint64_t wire_bytes(const StreamStats& stats) noexcept {
  return stats.wire_bytes_sent;
}

/// What was sent of the guest that was not zero, however it was encoded.
std::uint64_t content_bytes(const Progress& progress) noexcept {
  const std::uint64_t pages = progress.pages.normal + (progress.xbzrle ? progress.xbzrle->pages : 0) +
                              (progress.compression ? progress.compression->pages : 0);
  return pages * progress.page_bytes + (progress.disk ? progress.disk->transferred : 0);
}

}  // namespace

Result<> OutgoingMigration::Engine::precopy() {
  round_began_ = harvested_at_ = clock_.now();
  round_.round = 1;
  for (;;) {
    RAMFERRY_TRY(send_round());
    RAMFERRY_TRY_ASSIGN(const Pending found, next_round());
    if (judge(outlook(found)) != Verdict::switch_over) continue;
    RAMFERRY_TRY_ASSIGN(const bool ready, ready_to_pause());
    if (ready) return {};
  }
}

Result<bool> OutgoingMigration::Engine::ready_to_pause() {
  const Clock::Time begun = clock_.now();
  for (SectionHandler* section : out_->started()) {
    for (bool arrived = false; !arrived;) {
      RAMFERRY_TRY(check_stop());
      RAMFERRY_TRY_ASSIGN(arrived, section->await_arrival(Deadline::after(kLook)));
    }
  }
  const Clock::Time waited_until = clock_.now();
  if (waited_until - begun < kLook) return true;
  RAMFERRY_TRY_ASSIGN(const Pending found, pending(true));
  harvested_at_ = waited_until;
  round_.dirty_pages += progress().dirty_pages;
  return judge(outlook(found)) == Verdict::switch_over;
}

Result<> OutgoingMigration::Engine::send_round() {
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const Pending left, pending(false));
    if (left.finishable && left.bytes <= switchover_bytes(outlook(left))) return {};
    for (SectionHandler* section : out_->started()) {
      RAMFERRY_TRY(check_stop());
      RAMFERRY_TRY_ASSIGN(const Pending its, section->pending(false));
      if (its.bytes != 0 || !its.finishable) RAMFERRY_TRY(send_window(*section));
    }
  }
}

Result<> OutgoingMigration::Engine::send_window(SectionHandler& section) {
  const std::uint64_t bandwidth = limits().bandwidth;
  const std::uint64_t allowed = limiter_.allowance(bandwidth, clock_.now());
  if (allowed == 0) {
    stop_.sleep_until(limiter_.next_window());
    return {};
  }
  const Clock::Time begun = clock_.now();
  const std::uint64_t wire_before = wire_bytes(bytes_of(*link_).stats());
  const Progress before = progress();
  RAMFERRY_TRY(out_->iterate(
      section, {.bytes = allowed, .until = Deadline::after(kLook), .bytes_per_second = bandwidth}));
  const std::uint64_t wire = wire_bytes(bytes_of(*link_).stats()) - wire_before;
  limiter_.spend(wire);
  // Zero pages would make the link look faster than it is.
  const Progress now = progress();
  meter_.add(content_bytes(now) - content_bytes(before), clock_.now() - begun);
  log_.debug("migration window section=" + section.id().name + " wire_bytes=" + std::to_string(wire) +
             " bytes_per_second=" + std::to_string(static_cast<std::uint64_t>(meter_.bytes_per_second())));
  publish();
  return {};
}

Result<Pending> OutgoingMigration::Engine::pending(bool exact) {
  Pending all;
  for (SectionHandler* section : out_->started()) {
    RAMFERRY_TRY_ASSIGN(const Pending its, section->pending(exact));
    all.bytes += its.bytes;
    all.finishable = all.finishable && its.finishable;
  }
  log_.debug("migration pending bytes=" + std::to_string(all.bytes) + " exact=" + (exact ? "yes" : "no") +
             " finishable=" + (all.finishable ? "yes" : "no"));
  return all;
}

Outlook OutgoingMigration::Engine::outlook(const Pending& left) const {
  // The last harvest, the last fence with PREPARED, and COMMIT with RUNNING.
  const Nanoseconds round_trips = peer_ ? 2 * peer_->round_trip() : Nanoseconds::zero();
  return {.pending_bytes = left.bytes,
          .finishable = left.finishable,
          .bytes_per_second = bandwidth_after(round_.round, meter_.bytes_per_second()),
          .downtime_limit = limits().downtime,
          .overhead = harvest_time_ + round_trips};
}

Result<Pending> OutgoingMigration::Engine::next_round() {
  const Clock::Time begun = clock_.now();
  board_.begin_round();
  RAMFERRY_TRY_ASSIGN(const Pending found, pending(true));
  harvest_time_ = clock_.now() - begun;
  publish_round(found, clock_.now() - harvested_at_);
  harvested_at_ = begun;
  return found;
}

void OutgoingMigration::Engine::publish_round(const Pending& found, Nanoseconds since_harvest) {
  const Progress now = progress();
  const std::uint64_t wire = wire_bytes(bytes_of(*link_).stats());
  round_.guest_bytes = now.bytes_sent - sent_at_round_;
  round_.wire_bytes = wire - wire_at_round_;
  round_.took = clock_.now() - round_began_;
  if (round_.round == 1) round_.dirty_pages = round_.guest_bytes / std::max<std::uint64_t>(1, now.page_bytes);
  board_.add_round(round_);
  publish();

  const double seconds = std::chrono::duration<double>(since_harvest).count();
  const Outlook ahead = outlook(found);
  bool turned = false;
  board_.update([&](Status& status) {
    status.dirty_pages_per_second = seconds > 0 ? static_cast<double>(now.dirty_pages) / seconds : 0;
    status.expected_downtime = expected_downtime(ahead);
    const bool converging = is_converging(status.rounds);
    turned = status.converging && !converging;
    status.converging = converging;
  });
  if (turned)
    log_.warn(
        "the guest writes memory faster than it can be sent; raise the downtime limit or the bandwidth");
  log_.info("round " + std::to_string(round_.round) + " sent_bytes=" + std::to_string(round_.guest_bytes) +
            " dirty_pages=" + std::to_string(now.dirty_pages) +
            " pending_bytes=" + std::to_string(found.bytes));

  const Throttling throttling = limits().throttling;
  const std::uint64_t dirty_bytes = now.dirty_pages * now.page_bytes;
  if (const auto percent = auto_converge_.next(dirty_bytes, round_.guest_bytes, throttling))
    throttle(*percent);

  round_ = {.round = round_.round + 1, .dirty_pages = now.dirty_pages};
  round_began_ = clock_.now();
  sent_at_round_ = now.bytes_sent;
  wire_at_round_ = wire;
}

}  // namespace ramferry::migration
