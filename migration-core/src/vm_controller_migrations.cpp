// SPDX-License-Identifier: MIT
// The controller's migrations: what may begin, and what becomes of the guest when one ends.
#include "vm_controller_engine.hpp"

#include <utility>

namespace ramferry::migration {

Result<> VmController::Engine::check_may_migrate() const {
  if (down_) return fail(errc::wrong_state, "The VM is shutting down");
  if (run_state() == RunState::inmigrate)
    return fail(errc::wrong_state, "Guest is waiting for an incoming migration");
  if (busy_) return fail(errc::wrong_state, "There's a migration process in progress");
  if (run_state() == RunState::postmigrate)
    return fail(errc::wrong_state, "Can't migrate the vm that was paused due to previous migration");
  if (status().hand_over == HandOver::unknown && run_state() != RunState::running)
    return fail(errc::wrong_state, "The last migration's outcome is unknown",
                "find out which end has the guest, then 'cont' the right one");
  return {};
}

Result<> VmController::Engine::check_uri(const std::string& uri) const {
  RAMFERRY_TRY_ASSIGN(const Endpoint endpoint, Endpoint::parse(uri));
  const auto transport = parts_.transports.find(endpoint.scheme);
  if (!transport)
    return fail(errc::invalid_argument, "Parameter 'uri' expects a valid migration protocol",
                transport.error().message());
  return check_options(endpoint, (*transport)->options());
}

Result<> VmController::Engine::migrate(const std::string& uri) {
  const std::lock_guard starting(starting_);
  RAMFERRY_TRY(check_may_migrate());
  const auto checked = check_uri(uri);
  if (thread_.joinable()) thread_.join();  // of a migration that is over
  {
    const std::lock_guard lock(mutex_);
    refused_ = !checked;
    if (!checked) return checked;
    outgoing_ =
        std::make_unique<OutgoingMigration>(*this, parts_.sections, parts_.transports,
                                            OutgoingSettings{.limits = limits()}, parts_.clock, parts_.log);
    for (VmObserver* observer : observers_) outgoing_->observe(*observer);
  }
  busy_ = true;
  thread_ = std::thread([this, uri] { run_outgoing(uri); });
  return {};
}

void VmController::Engine::run_outgoing(const std::string& uri) {
  const auto result = outgoing_->run(uri);
  if (result) {
    const std::lock_guard guest(guest_);
    enter(RunState::postmigrate);
  } else if (!result.error().is(errc::outcome_unknown)) {
    // Undone already if the migration got as far as pausing; not if pausing itself failed.
    if (run_state() == RunState::finish_migrate) {
      if (const auto resumed = resume(); !resumed)
        parts_.log.error("the guest does not run again: " + resumed.error().message());
    }
  }
  busy_ = false;
}

void VmController::Engine::expect_incoming() {
  const std::lock_guard guest(guest_);
  enter(RunState::inmigrate);
}

Result<> VmController::Engine::migrate_incoming(const std::string& uri) {
  const std::lock_guard starting(starting_);
  if (down_) return fail(errc::wrong_state, "The VM is shutting down");
  {
    const std::lock_guard lock(mutex_);
    if (incoming_ != nullptr)
      return fail(errc::wrong_state, "The incoming migration has already been started");
  }
  if (run_state() != RunState::inmigrate)
    return fail(errc::wrong_state, "'-incoming' was not specified on the command line");
  RAMFERRY_TRY_ASSIGN(auto listener, parts_.transports.listen(uri));
  {
    const std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
    incoming_ = std::make_unique<IncomingMigration>(parts_.sections, *this, IncomingSettings{}, parts_.clock,
                                                    parts_.log);
    for (VmObserver* observer : observers_) incoming_->observe(*observer);
  }
  busy_ = true;
  thread_ = std::thread([this, uri] { run_incoming(uri); });
  return {};
}

std::optional<Endpoint> VmController::Engine::incoming_address() const {
  const std::lock_guard lock(mutex_);
  if (listener_ == nullptr) return std::nullopt;
  return listener_->local();
}

Result<> VmController::Engine::take_over() {
  const std::lock_guard guest(guest_);
  RAMFERRY_TRY(parts_.incoming_steps.taken_over());
  const auto sent = parse_run_state(global_state.loaded().value_or("running"));
  if (!sent) return fail(errc::unsupported, "entering a run state that this VM does not know");
  if (*sent != RunState::running) {
    enter(*sent);
    return {};
  }
  if (autostart_) return run_guest();
  enter(RunState::paused);
  return {};
}

void VmController::Engine::run_incoming(const std::string& uri) {
  const auto result = incoming_->run(*listener_, uri);
  {
    // Nothing more is awaited: its address, and a socket's file, are given back.
    const std::lock_guard lock(mutex_);
    listener_.reset();
  }
  if (!result) {
    const std::lock_guard guest(guest_);
    if (result.error().is(errc::outcome_unknown)) enter(RunState::paused);
  }
  busy_ = false;
  for (VmObserver* observer : observers_) observer->on_incoming_end(result);
}

void VmController::Engine::cancel() {
  const std::lock_guard lock(mutex_);
  if (busy_ && outgoing_) outgoing_->cancel();
}

void VmController::Engine::shut_down() {
  const std::lock_guard starting(starting_);
  {
    const std::lock_guard lock(mutex_);
    down_ = true;
    if (outgoing_) outgoing_->cancel();
    if (incoming_) incoming_->cancel();
    if (listener_) listener_->cancel();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace ramferry::migration
