// SPDX-License-Identifier: MIT
// The controller's migrations: what may begin, and what becomes of the guest when one ends.
#include "vm_controller_engine.hpp"

#include <ramferry/migration/native_protocol.hpp>

#include <algorithm>
#include <utility>

namespace ramferry::migration {

std::span<const SwitchSpec> switches_of(const Transport& transport) noexcept {
  const auto* has = dynamic_cast<const HasSwitches*>(&transport);
  return has == nullptr ? std::span<const SwitchSpec>() : has->switches();
}

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
  return check_blockers();
}

Result<> VmController::Engine::check_blockers() const {
  {
    const std::lock_guard lock(mutex_);
    if (!blockers_.empty()) return fail(errc::wrong_state, blockers_.back());
  }
  for (const SectionHandler* each : parts_.sections.in_order())
    if (std::string why = each->blocker(); !why.empty()) return fail(errc::wrong_state, std::move(why));
  return {};
}

Result<> VmController::Engine::block(std::string reason) {
  const std::lock_guard starting(starting_);
  if (busy_)
    return fail(errc::wrong_state, "keeping the VM from being migrated, because '" + reason + "'",
                "a migration is under way: cancel it, or wait for its end");
  const std::lock_guard lock(mutex_);
  blockers_.push_back(std::move(reason));
  return {};
}

void VmController::Engine::unblock(std::string_view reason) {
  const std::lock_guard lock(mutex_);
  const auto at = std::find(blockers_.begin(), blockers_.end(), reason);
  if (at != blockers_.end()) blockers_.erase(at);
}

Result<> VmController::Engine::check_coding(const Transport& transport, const std::string& scheme) const {
  if (dynamic_cast<const PlacesDirectly*>(&transport) == nullptr) return {};
  for (const char* each : {"xbzrle", "compress"})
    if (capabilities.on(each))
      return fail(errc::unsupported,
                  "Capability '" + std::string(each) + "' cannot be used with '" + scheme +
                      ":', which writes pages straight into the destination's memory",
                  "switch it off, or use another transport");
  return {};
}

Result<std::string> VmController::Engine::complete_uri(const std::string& uri) const {
  RAMFERRY_TRY_ASSIGN(Endpoint endpoint, Endpoint::parse(uri));
  const auto transport = parts_.transports.find(endpoint.scheme);
  if (!transport)
    return fail(errc::invalid_argument, "Parameter 'uri' expects a valid migration protocol",
                transport.error().message());
  RAMFERRY_TRY(check_options(endpoint, (*transport)->options()));
  RAMFERRY_TRY(check_coding(**transport, endpoint.scheme));
  for (const SwitchSpec& each : switches_of(**transport))
    if (capabilities.on(each.capability))
      endpoint.options.try_emplace(std::string(each.option), std::string(each.value));
  return endpoint.to_string();
}

OutgoingSettings VmController::Engine::outgoing_settings() const {
  const PageCoding coding = page_coding();
  return {.limits = limits(),
          .features = (coding.xbzrle ? native::feature::kXbzrle : 0) |
                      (coding.compress ? native::feature::kCompression : 0),
          .pause_before_switchover = capabilities.on("pause-before-switchover")};
}

Result<> VmController::Engine::migrate(const std::string& uri, DiskMode disks) {
  const std::lock_guard starting(starting_);
  RAMFERRY_TRY(check_may_migrate());
  const auto complete = complete_uri(uri);
  if (thread_.joinable()) thread_.join();  // of a migration that is over
  {
    const std::lock_guard lock(mutex_);
    refused_ = !complete;
    if (!complete) return Failure(complete.error());
    retire(std::move(outgoing_));
    outgoing_ = std::make_unique<OutgoingMigration>(*this, parts_.sections, parts_.transports,
                                                    outgoing_settings(), parts_.clock, parts_.log);
    outgoing_->observe(*this);
  }
  disk_mode_ = disks;
  begin([this, to = *complete] { run_outgoing(to); });
  return {};
}

void VmController::Engine::retire(std::unique_ptr<OutgoingMigration> old) {
  std::erase_if(retiring_, [](const std::future<void>& each) {
    return each.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  });
  if (old)
    retiring_.push_back(std::async(std::launch::async, [gone = std::move(old)]() mutable { gone.reset(); }));
}

void VmController::Engine::begin(std::function<void()> run) {
  busy_ = true;
  begun_ = {};
  auto begun = begun_.get_future();
  thread_ = std::thread(std::move(run));
  begun.wait();
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

Result<> VmController::Engine::expect_incoming() {
  const std::lock_guard guest(guest_);
  if (run_state() == RunState::inmigrate)
    return fail(errc::wrong_state, "The incoming migration has already been deferred");
  if (run_state() != RunState::prelaunch)
    return fail(errc::wrong_state, "A VM that ran cannot wait for an incoming migration");
  enter(RunState::inmigrate);
  return {};
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
    incoming_->observe(*this);
  }
  begin([this, uri] { run_incoming(uri); });
  return {};
}

std::optional<Endpoint> VmController::Engine::incoming_address() const {
  const std::lock_guard lock(mutex_);
  if (listener_ == nullptr) return std::nullopt;
  return listener_->local();
}

Result<> VmController::Engine::take_over() {
  const std::lock_guard guest(guest_);
  RAMFERRY_TRY(parts_.incoming_steps.invalidate_storage());
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
  if (result) announcer_.start(announce_schedule());
  busy_ = false;
  tell([&](VmObserver& each) { each.on_incoming_end(result); });
}

void VmController::Engine::cancel() {
  const std::lock_guard lock(mutex_);
  if (busy_ && outgoing_) outgoing_->cancel();
}

Result<> VmController::Engine::proceed() {
  const std::lock_guard lock(mutex_);
  if (!outgoing_ || outgoing_->status().state != State::pre_switchover)
    return fail(errc::wrong_state, "No migration waits before its switchover");
  outgoing_->proceed();
  return {};
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
  retiring_.clear();
  announcer_.stop();
}

}  // namespace ramferry::migration
