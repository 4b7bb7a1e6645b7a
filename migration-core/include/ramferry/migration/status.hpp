// SPDX-License-Identifier: MIT
// What a migration tells about itself: states, rounds, totals. Plain values, copied out under a lock.
#pragma once

#include <ramferry/channel.hpp>
#include <ramferry/error.hpp>
#include <ramferry/migration/section.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::migration {

/// QEMU's names and meaning.
enum class State : std::uint8_t {
  none,
  setup,
  active,
  pre_switchover,  ///< the guest is paused, nothing of the switchover is sent: only where that was asked for
  device,
  completed,
  failed,
  cancelling,
  cancelled,
};
std::string_view to_string(State state) noexcept;
constexpr bool is_in_setup(State state) noexcept {
  return state == State::setup;
}
constexpr bool is_finished(State state) noexcept {
  return state == State::completed;
}
constexpr bool has_failed(State state) noexcept {
  return state == State::failed || state == State::cancelled;
}
/// The whole diagram, testable exhaustively.
bool may_follow(State from, State to) noexcept;

/// Who owns the guest, as far as this end knows. Native dialect; see "One owner of the guest" in
/// design-notes.
enum class HandOver : std::uint8_t {
  none,       ///< not begun: the source owns it
  prepared,   ///< the destination has everything and waits for COMMIT
  committed,  ///< COMMIT is being or has been sent or received: the source will not run it again by itself
  running,    ///< acknowledged: the destination owns it
  unknown,    ///< the link broke between PREPARED and RUNNING: this end stays paused and waits for a decision
};
std::string_view to_string(HandOver hand_over) noexcept;

using Nanoseconds = std::chrono::nanoseconds;

/// One pass over the dirty pages.
struct RoundReport {
  std::uint32_t round = 0;        ///< from 1
  std::uint64_t guest_bytes = 0;  ///< pages sent × page size, zero pages included
  std::uint64_t wire_bytes = 0;
  std::uint64_t dirty_pages = 0;  ///< found dirty when it began
  Nanoseconds took{};
};

/// A snapshot of the running or last migration.
struct Status {
  State state = State::none;
  HandOver hand_over = HandOver::none;
  bool incoming = false;
  std::optional<Error> error;
  SessionId session;
  std::string uri;
  std::string tracker;                                              ///< empty at a destination
  std::uint32_t round = 0;                                          ///< the last that was finished
  std::uint32_t rounds_begun = 0;                                   ///< the switchover's counts
  std::uint64_t ram_total = 0, ram_remaining = 0, transferred = 0;  ///< bytes; transferred is on the wire
  PageCounts pages;
  std::uint64_t page_bytes = 4096;
  double bytes_per_second = 0;  ///< over the last window
  double dirty_pages_per_second = 0;
  bool converging = true;             ///< false: for several rounds the guest has written faster than we send
  std::uint8_t throttle_percent = 0;  ///< the guest's CPUs are slowed down by this much
  std::optional<XbzrleCounts> xbzrle;
  std::optional<CompressionCounts> compression;
  std::optional<DiskCounts> disk;
  Nanoseconds total_time{}, time_to_first_byte{};  ///< from the beginning, connecting included
  Nanoseconds setup_time{};                        ///< from the link to State::active
  std::optional<Nanoseconds> downtime;             ///< once known
  std::optional<Nanoseconds> expected_downtime;    ///< while active
  std::optional<Nanoseconds> cancel_time;          ///< from the cancel to the end, once cancelled
  bool waited_before_switchover = false;           ///< it was in State::pre_switchover
  Nanoseconds cpu_time{};                          ///< user + system of this process during the migration
  std::vector<RoundReport> rounds;                 ///< at most the last 1000
  StreamStats stream;
  Facts facts;
};

/// Told what happened, never asked. On the migration thread, but State::cancelling on the one that cancels:
/// be quick, do not call back.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_state(State /*from*/, State /*to*/) noexcept {}
  /// The link to the other end stands; `facts` are the transport's.
  virtual void on_connected(const Facts& /*facts*/) noexcept {}
  virtual void on_error(const Error& /*error*/) noexcept {}
  /// The sections have given back what they took, and the link is closed.
  virtual void on_cleanup() noexcept {}
  /// Round `round`, from 1, begins by looking for dirty pages. The switchover is the last, and has no report.
  virtual void on_round_begin(std::uint32_t /*round*/) noexcept {}
  virtual void on_round(const RoundReport& /*round*/) noexcept {}
};

}  // namespace ramferry::migration
