// SPDX-License-Identifier: MIT
#include "status_board.hpp"

#include <ramferry/timeline.hpp>

#include <sys/resource.h>

namespace ramferry::migration {
namespace {

constexpr std::size_t kMostRounds = 1000;

Nanoseconds process_cpu_time() noexcept {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto nanoseconds = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
}

bool is_final(State state) noexcept {
  return state == State::completed || state == State::failed || state == State::cancelled;
}

}  // namespace

StatusBoard::StatusBoard(Clock& clock, Log& log, bool incoming) : clock_(clock), log_(log) {
  status_.incoming = incoming;
}

void StatusBoard::start(std::string uri) {
  const std::lock_guard lock(mutex_);
  started_ = clock_.now();
  cpu_at_start_ = process_cpu_time();
  connected_ = started_;
  status_.uri = std::move(uri);
}

bool StatusBoard::advance(State to) {
  const std::lock_guard telling(telling_);
  State from;
  {
    const std::lock_guard lock(mutex_);
    from = status_.state;
    if (!may_follow(from, to)) return false;
    if (to == State::active) status_.setup_time = clock_.now() - connected_;
    if (to == State::pre_switchover) status_.waited_before_switchover = true;
    if (to == State::cancelling) cancelled_ = clock_.now();
    if (to == State::cancelled) status_.cancel_time = clock_.now() - cancelled_;
    if (is_final(to)) {
      status_.total_time = clock_.now() - started_;
      status_.cpu_time = cpu_time();
      status_.expected_downtime.reset();
    }
    status_.state = to;
  }
  log_.debug("migration state from=" + std::string(to_string(from)) + " to=" + std::string(to_string(to)));
  for (Observer* each : observers_) each->on_state(from, to);
  return true;
}

void StatusBoard::step(std::string_view name) const {
  log_step(log_, clock_, "migration", name);
}

State StatusBoard::state() const {
  const std::lock_guard lock(mutex_);
  return status_.state;
}

void StatusBoard::connected(const Facts& facts) {
  step("connected");
  update([&](Status& status) {
    connected_ = clock_.now();
    status.facts = facts;
  });
  for (Observer* each : observers_) each->on_connected(facts);
}

void StatusBoard::failed(const Error& error) {
  update([&](Status& status) { status.error = error; });
  for (Observer* each : observers_) each->on_error(error);
}

void StatusBoard::cleaned_up() {
  log_.debug("migration cleanup");
  for (Observer* each : observers_) each->on_cleanup();
}

void StatusBoard::begin_round() {
  std::uint32_t round = 0;
  update([&](Status& status) { round = ++status.rounds_begun; });
  for (Observer* each : observers_) each->on_round_begin(round);
}

void StatusBoard::add_round(const RoundReport& round) {
  {
    const std::lock_guard lock(mutex_);
    if (status_.rounds.size() == kMostRounds) status_.rounds.erase(status_.rounds.begin());
    status_.rounds.push_back(round);
    status_.round = round.round;
  }
  for (Observer* each : observers_) each->on_round(round);
}

Status StatusBoard::snapshot() const {
  const std::lock_guard lock(mutex_);
  Status copy = status_;
  if (copy.state != State::none && !is_final(copy.state)) {
    copy.total_time = clock_.now() - started_;
    copy.cpu_time = cpu_time();
  }
  return copy;
}

Nanoseconds StatusBoard::cpu_time() const {
  return process_cpu_time() - cpu_at_start_;
}

}  // namespace ramferry::migration
