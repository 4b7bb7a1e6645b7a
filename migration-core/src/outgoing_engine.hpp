// SPDX-License-Identifier: MIT
// The source, in the order things happen: connect, greet, start, rounds (precopy.cpp), hand over
// (hand_over.cpp).
#pragma once

#include "connector.hpp"
#include "source_peer.hpp"
#include "status_board.hpp"
#include "stop_switch.hpp"

#include <ramferry/migration/outgoing.hpp>
#include <ramferry/migration/policy.hpp>
#include <ramferry/migration/savevm.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace ramferry::migration {

class OutgoingMigration::Engine {
 public:
  Engine(GuestControl& guest, SectionRegistry& sections, const TransportCatalog& transports,
         OutgoingSettings settings, Clock& clock, Log& log);

  void observe(Observer& observer) { board_.observe(observer); }
  Result<> run(const std::string& uri);
  void cancel() noexcept;
  void set_limits(const Limits& limits) noexcept;
  void proceed() noexcept;
  Status status() const { return board_.snapshot(); }

 private:
  // outgoing.cpp
  Result<> migrate(const std::string& uri);
  Result<> open(const std::string& uri);
  Result<> greet();
  Result<> attach();
  Result<> conclude(Result<> result);
  /// errc::cancelled, or what the peer did to us, in place of the failure that it led to here.
  Error true_reason(Error error) const;
  Result<> check_stop() const;
  void give_guest_back() noexcept;
  void clean_up() noexcept;
  Progress progress() const;
  void publish();

  Limits limits() const;
  void throttle(unsigned percent);

  // precopy.cpp
  Result<> precopy();
  /// Sends until everything found dirty was sent, or little enough is left; looks at the limits at least
  /// every 100 ms.
  Result<> send_round();
  Result<> send_window(SectionHandler& section);
  Result<Pending> pending(bool exact);
  Outlook outlook(const Pending& pending) const;
  /// Ends a round by asking what is dirty now.
  Result<Pending> next_round();
  /// Waits for what is in flight, which may not be for the downtime. False if that took so long that what the
  /// guest wrote meanwhile is too much for it.
  Result<bool> ready_to_pause();
  void publish_round(const Pending& found, Nanoseconds harvest);

  // hand_over.cpp
  Result<> switch_over();
  /// State::pre_switchover, until proceed().
  Result<> await_leave();
  Result<> pause_guest();
  Result<> hand_over_native();
  Result<> hand_over_bytes();
  /// Tells the destination, which waits for COMMIT, that none will come.
  void say_goodbye(const Error& why);
  Failure outcome_unknown(Error why);

  GuestControl& guest_;
  SectionRegistry& sections_;
  OutgoingSettings settings_;
  Clock& clock_;
  Log& log_;
  mutable std::mutex limits_mutex_;
  Limits limits_;
  StatusBoard board_;
  StopSwitch stop_;
  Connector connector_;

  std::unique_ptr<Link> link_;
  std::unique_ptr<SourcePeer> peer_;  ///< native only
  std::optional<SavevmWriter> out_;
  std::vector<SectionHandler*> attached_;

  std::atomic<bool> may_switch_over_ = false;
  bool resume_on_failure_ = false;
  std::optional<Clock::Time> paused_at_;

  RateLimiter limiter_;
  AutoConverge auto_converge_;
  BandwidthMeter meter_;
  RoundReport round_;
  std::uint64_t wire_at_round_ = 0, sent_at_round_ = 0;
  Clock::Time round_began_{}, harvested_at_{};
  Nanoseconds harvest_time_{};
};

}  // namespace ramferry::migration
