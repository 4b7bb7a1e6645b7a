// SPDX-License-Identifier: MIT
#include "vm_controller_engine.hpp"

#include <ramferry/migration/vm_controller.hpp>

#include <algorithm>
#include <array>
#include <utility>

namespace ramferry::migration {
namespace {

constexpr std::array<std::string_view, 16> kRunStates = {
    "debug",     "inmigrate",      "internal-error", "io-error", "paused",  "postmigrate",
    "prelaunch", "finish-migrate", "restore-vm",     "running",  "save-vm", "shutdown",
    "suspended", "watchdog",       "guest-panicked", "colo"};

/// Behind these a guest lies still: whoever wrote it there may go on with it.
bool is_stored(const Status& status) {
  const auto endpoint = Endpoint::parse(status.uri);
  return endpoint && (endpoint->scheme == "file" || endpoint->scheme == "exec" || endpoint->scheme == "fd");
}

/// A hand-over whose end this side does not know, or that gave the guest away.
bool guest_may_be_theirs(const Status& status) {
  if (status.hand_over == HandOver::unknown) return true;
  return !status.incoming && status.hand_over == HandOver::running && !is_stored(status);
}

}  // namespace

std::string_view to_string(RunState state) noexcept {
  return kRunStates[static_cast<std::size_t>(state)];
}

std::optional<RunState> parse_run_state(std::string_view name) noexcept {
  const auto at = std::find(kRunStates.begin(), kRunStates.end(), name);
  if (at == kRunStates.end()) return std::nullopt;
  return static_cast<RunState>(at - kRunStates.begin());
}

VmController::Engine::Engine(const VmParts& parts)
    : global_state([this] { return std::string(to_string(run_state())); }, parts.log),
      parts_(parts),
      announcer_([this](unsigned round) { parts_.incoming_steps.announce(round); }) {
  add_standard_settings(parameters, capabilities);
  for (const std::string& scheme : parts.transports.schemes())
    for (const SwitchSpec& each : switches_of(**parts.transports.find(scheme)))
      capabilities.add(std::string(each.capability));
  parameters.when_set([this] { apply_limits(); });
}

void VmController::Engine::observe(VmObserver& observer) {
  const std::lock_guard lock(observers_mutex_);
  observers_.push_back(&observer);
}

void VmController::Engine::forget(VmObserver& observer) {
  const std::lock_guard lock(observers_mutex_);
  std::erase(observers_, &observer);
}

void VmController::Engine::on_state(State from, State to) noexcept {
  if (from == State::none) begun_.set_value();
  tell([&](VmObserver& each) { each.on_state(from, to); });
}
void VmController::Engine::on_connected(const Facts& facts) noexcept {
  tell([&](VmObserver& each) { each.on_connected(facts); });
}
void VmController::Engine::on_error(const Error& error) noexcept {
  tell([&](VmObserver& each) { each.on_error(error); });
}
void VmController::Engine::on_cleanup() noexcept {
  tell([](VmObserver& each) { each.on_cleanup(); });
}
void VmController::Engine::on_round_begin(std::uint32_t round) noexcept {
  tell([&](VmObserver& each) { each.on_round_begin(round); });
}
void VmController::Engine::on_round(const RoundReport& round) noexcept {
  tell([&](VmObserver& each) { each.on_round(round); });
}

RunState VmController::Engine::run_state() const {
  const std::lock_guard lock(mutex_);
  return run_state_;
}

void VmController::Engine::enter(RunState state) {
  RunState from;
  {
    const std::lock_guard lock(mutex_);
    from = std::exchange(run_state_, state);
  }
  if (from == state) return;
  tell([&](VmObserver& each) { each.on_run_state(from, state); });
}

Result<> VmController::Engine::run_guest() {
  RAMFERRY_TRY(parts_.guest.resume());
  enter(RunState::running);
  return {};
}

Result<> VmController::Engine::stop() {
  const std::lock_guard guest(guest_);
  switch (run_state()) {
    case RunState::running:
      RAMFERRY_TRY(parts_.guest.pause());
      enter(RunState::paused);
      break;
    case RunState::inmigrate: autostart_ = false; break;
    case RunState::finish_migrate: {
      const std::lock_guard lock(mutex_);
      if (before_pause_ == RunState::running) before_pause_ = RunState::paused;
      break;
    }
    default: break;
  }
  return {};
}

Result<> VmController::Engine::check_may_run(RunState state, bool force) const {
  if (busy_ && state == RunState::finish_migrate)
    return fail(errc::wrong_state, "Migration is not finalized yet");
  if (force || !guest_may_be_theirs(status())) return {};
  return fail(errc::wrong_state, "Running the guest here could make two of it: the other end may own it",
              "look there first; \"x-ramferry-force\": true runs it here all the same");
}

Result<> VmController::Engine::cont(bool force) {
  const std::lock_guard guest(guest_);
  const RunState state = run_state();
  if (state == RunState::inmigrate) {
    autostart_ = true;
    return {};
  }
  if (state == RunState::running) return {};
  RAMFERRY_TRY(check_may_run(state, force));
  const Status last = status();
  if (last.incoming && last.hand_over == HandOver::unknown) RAMFERRY_TRY(parts_.incoming_steps.taken_over());
  return run_guest();
}

Result<> VmController::Engine::pause() {
  const std::lock_guard guest(guest_);
  {
    const std::lock_guard lock(mutex_);
    before_pause_ = run_state_;
  }
  auto paused = parts_.guest.pause();
  if (paused) enter(RunState::finish_migrate);
  return paused;
}

Result<> VmController::Engine::resume() {
  const std::lock_guard guest(guest_);
  if (run_state() != RunState::finish_migrate && run_state() != RunState::running) return {};
  RunState before;
  {
    const std::lock_guard lock(mutex_);
    before = before_pause_;
  }
  if (before == RunState::running) return run_guest();
  enter(before);
  return {};
}

Status VmController::Engine::status() const {
  const std::lock_guard lock(mutex_);
  if (refused_) {
    Status refused;
    refused.state = State::failed;
    return refused;
  }
  if (outgoing_) return outgoing_->status();
  if (!incoming_) return {};
  Status status = incoming_->status();
  status.incoming = true;
  return status;
}

Limits VmController::Engine::limits() const {
  const auto percent = [this](const char* name) { return static_cast<unsigned>(parameters.integer(name)); };
  return {.downtime = std::chrono::milliseconds(parameters.integer("downtime-limit")),
          .bandwidth = static_cast<std::uint64_t>(parameters.integer("max-bandwidth")),
          .throttling = {.on = capabilities.on("auto-converge"),
                         .initial = percent("cpu-throttle-initial"),
                         .increment = percent("cpu-throttle-increment"),
                         .most = percent("max-cpu-throttle"),
                         .trigger = percent("throttle-trigger-threshold")}};
}

PageCoding VmController::Engine::page_coding() const {
  const auto threads = [this](const char* name) { return static_cast<unsigned>(parameters.integer(name)); };
  return {
      .xbzrle = capabilities.on("xbzrle"),
      .cache_bytes = static_cast<std::uint64_t>(parameters.integer("xbzrle-cache-size")),
      .compress = capabilities.on("compress"),
      .method = parameters.text("compress-method") == "zstd" ? CompressMethod::zstd : CompressMethod::zlib,
      .level = static_cast<int>(parameters.integer("compress-level")),
      .threads = threads("compress-threads"),
      .decompress_threads = threads("decompress-threads")};
}

AnnounceSchedule VmController::Engine::announce_schedule() const {
  const auto time = [this](const char* name) { return std::chrono::milliseconds(parameters.integer(name)); };
  return {.initial = time("announce-initial"),
          .most = time("announce-max"),
          .step = time("announce-step"),
          .rounds = static_cast<unsigned>(parameters.integer("announce-rounds"))};
}

void VmController::Engine::apply_limits() {
  const std::lock_guard lock(mutex_);
  if (outgoing_) outgoing_->set_limits(limits());
}

VmController::VmController(const VmParts& parts) : engine_(std::make_unique<Engine>(parts)) {}
VmController::~VmController() = default;
void VmController::observe(VmObserver& observer) {
  engine_->observe(observer);
}
void VmController::forget(VmObserver& observer) {
  engine_->forget(observer);
}
RunState VmController::run_state() const {
  return engine_->run_state();
}
Result<> VmController::stop() {
  return engine_->stop();
}
Result<> VmController::cont(bool force) {
  return engine_->cont(force);
}
Result<> VmController::migrate(const std::string& uri, DiskMode disks) {
  return engine_->migrate(uri, disks);
}
Result<> VmController::block(std::string reason) {
  return engine_->block(std::move(reason));
}
void VmController::unblock(std::string_view reason) {
  engine_->unblock(reason);
}
PageCoding VmController::page_coding() const {
  return engine_->page_coding();
}
DiskMode VmController::disk_mode() const {
  return engine_->disk_mode();
}
void VmController::announce(const AnnounceSchedule& schedule) {
  engine_->announce(schedule);
}
Result<> VmController::expect_incoming() {
  return engine_->expect_incoming();
}
Result<> VmController::migrate_incoming(const std::string& uri) {
  return engine_->migrate_incoming(uri);
}
std::optional<Endpoint> VmController::incoming_address() const {
  return engine_->incoming_address();
}
void VmController::cancel() {
  engine_->cancel();
}
Result<> VmController::proceed() {
  return engine_->proceed();
}
Status VmController::status() const {
  return engine_->status();
}
bool VmController::migrating() const {
  return engine_->migrating();
}
void VmController::shut_down() {
  engine_->shut_down();
}
GlobalStateSection& VmController::global_state() noexcept {
  return engine_->global_state;
}
MigrationParameters& VmController::parameters() noexcept {
  return engine_->parameters;
}
MigrationCapabilities& VmController::capabilities() noexcept {
  return engine_->capabilities;
}

}  // namespace ramferry::migration
