// SPDX-License-Identifier: MIT
#include "outgoing_engine.hpp"

#include <utility>

namespace ramferry::migration {

namespace {

std::size_t live_sections(const SectionRegistry& sections) {
  std::size_t count = 0;
  for (const SectionHandler* each : sections.in_order()) count += each->live() ? 1 : 0;
  return count;
}

}  // namespace

OutgoingMigration::OutgoingMigration(GuestControl& guest, SectionRegistry& sections,
                                     const TransportCatalog& transports, OutgoingSettings settings,
                                     Clock& clock, Log& log)
    : engine_(std::make_unique<Engine>(guest, sections, transports, std::move(settings), clock, log)) {}

OutgoingMigration::~OutgoingMigration() = default;
void OutgoingMigration::observe(Observer& observer) {
  engine_->observe(observer);
}
Result<> OutgoingMigration::run(const std::string& uri) {
  return engine_->run(uri);
}
void OutgoingMigration::cancel() noexcept {
  engine_->cancel();
}
void OutgoingMigration::set_limits(const Limits& limits) noexcept {
  engine_->set_limits(limits);
}
void OutgoingMigration::proceed() noexcept {
  engine_->proceed();
}
Status OutgoingMigration::status() const {
  return engine_->status();
}

OutgoingMigration::Engine::Engine(GuestControl& guest, SectionRegistry& sections,
                                  const TransportCatalog& transports, OutgoingSettings settings, Clock& clock,
                                  Log& log)
    : guest_(guest),
      sections_(sections),
      settings_(std::move(settings)),
      clock_(clock),
      log_(log),
      limits_(settings_.limits),
      board_(clock, log, false),
      connector_(transports) {}

void OutgoingMigration::Engine::set_limits(const Limits& limits) noexcept {
  const std::lock_guard lock(limits_mutex_);
  limits_ = limits;
}

Limits OutgoingMigration::Engine::limits() const {
  const std::lock_guard lock(limits_mutex_);
  return limits_;
}

void OutgoingMigration::Engine::throttle(unsigned percent) {
  guest_.throttle(static_cast<std::uint8_t>(percent));
  board_.update([&](Status& status) { status.throttle_percent = static_cast<std::uint8_t>(percent); });
  log_.info("guest throttled percent=" + std::to_string(percent));
}

void OutgoingMigration::Engine::cancel() noexcept {
  const State state = board_.state();
  if (!may_follow(state, State::cancelling)) return;
  log_.debug("migration cancel");
  if (stop_.cancel()) board_.advance(State::cancelling);
}

Result<> OutgoingMigration::Engine::run(const std::string& uri) {
  board_.start(uri);
  board_.step("start");
  if (!board_.advance(State::setup)) return fail(errc::wrong_state, "starting a migration a second time");
  const SectionRegistry::Hold hold(sections_);
  return conclude(migrate(uri));
}

Result<> OutgoingMigration::Engine::migrate(const std::string& uri) {
  RAMFERRY_TRY(open(uri));
  if (std::holds_alternative<std::unique_ptr<Channel>>(*link_)) RAMFERRY_TRY(greet());
  board_.step("greeted");
  RAMFERRY_TRY(attach());
  board_.step("attached");
  out_.emplace(bytes_of(*link_), sections_);
  RAMFERRY_TRY(out_->begin(settings_.machine));
  board_.begin_round();
  RAMFERRY_TRY(out_->start_all());
  board_.step("started");
  RAMFERRY_TRY(check_stop());
  publish();  // who sees the state active sees what belongs to it
  board_.update([this](Status& status) { status.expected_downtime = limits().downtime; });
  board_.advance(State::active);
  RAMFERRY_TRY(precopy());
  return switch_over();
}

Result<> OutgoingMigration::Engine::open(const std::string& uri) {
  const SessionId session = SessionId::random();
  board_.update([&](Status& status) { status.session = session; });
  RAMFERRY_TRY_ASSIGN(auto link,
                      connector_.connect(uri, session, Deadline::after(settings_.connect_timeout), stop_));
  link_ = std::make_unique<Link>(std::move(link));
  stop_.on_cancel([this] { bytes_of(*link_).cancel(); });
  board_.connected(bytes_of(*link_).facts());
  return {};
}

Result<> OutgoingMigration::Engine::greet() {
  Channel& channel = *std::get<std::unique_ptr<Channel>>(*link_);
  board_.update([&](Status& status) { status.session = channel.session(); });
  peer_ = std::make_unique<SourcePeer>(
      channel, SourcePeer::Waits{settings_.connect_timeout, settings_.hand_over_timeout},
      live_sections(sections_));
  const std::uint64_t page_bytes = progress().page_bytes;
  return peer_->greet({.required = settings_.features,
                       .page_bytes = static_cast<std::uint32_t>(page_bytes == 0 ? 4096 : page_bytes),
                       .machine = settings_.machine});
}

Result<> OutgoingMigration::Engine::attach() {
  for (SectionHandler* each : sections_.in_order()) {
    attached_.push_back(each);
    if (auto done = each->attach(peer_.get()); !done)
      return within(std::move(done).error(), "preparing section '" + each->id().name + "'");
  }
  return {};
}

Result<> OutgoingMigration::Engine::check_stop() const {
  if (stop_.cancelled()) return fail(errc::cancelled, "migrating");
  if (peer_) {
    if (auto error = peer_->reason({}); error.code) return Failure(std::move(error));
  }
  return {};
}

Error OutgoingMigration::Engine::true_reason(Error error) const {
  if (error.is(errc::outcome_unknown)) return error;
  if (stop_.cancelled()) return {make_error_code(errc::cancelled), "migrating", {}};
  return peer_ ? peer_->reason(std::move(error)) : error;
}

Result<> OutgoingMigration::Engine::conclude(Result<> result) {
  if (!result) result = Failure(true_reason(std::move(result).error()));
  // Told before the guest runs again, unless the thread that cancelled was faster.
  if (!result && result.error().is(errc::cancelled)) board_.advance(State::cancelling);
  if (!result && resume_on_failure_) give_guest_back();
  if (auto_converge_.percent() != 0) throttle(0);
  publish();
  if (result) board_.advance(State::completed);
  if (!result) {
    board_.failed(result.error());
    if (result.error().is(errc::cancelled)) {
      for (SectionHandler* each : attached_) each->cancel();
    } else {
      log_.error(result.error().message());
    }
  }
  clean_up();
  if (result) return result;
  board_.advance(result.error().is(errc::cancelled) ? State::cancelled : State::failed);
  return result;
}

void OutgoingMigration::Engine::give_guest_back() noexcept {
  resume_on_failure_ = false;
  if (auto resumed = guest_.resume(); !resumed) log_.error(resumed.error().message());
}

void OutgoingMigration::Engine::clean_up() noexcept {
  stop_.on_cancel({});
  for (SectionHandler* each : attached_) each->cleanup();
  attached_.clear();
  out_.reset();
  peer_.reset();
  link_.reset();
  board_.cleaned_up();
}

Progress OutgoingMigration::Engine::progress() const {
  Progress all;
  for (const SectionHandler* each : sections_.in_order()) each->report(all);
  return all;
}

void OutgoingMigration::Engine::publish() {
  const Progress now = progress();
  const StreamStats stream = link_ ? bytes_of(*link_).stats() : StreamStats{};
  board_.update([&](Status& status) {
    status.ram_total = now.bytes_total;
    status.ram_remaining = now.bytes_remaining;
    status.pages = now.pages;
    status.page_bytes = now.page_bytes == 0 ? 4096 : now.page_bytes;
    status.tracker = now.tracker;
    status.xbzrle = now.xbzrle;
    status.compression = now.compression;
    status.disk = now.disk;
    status.bytes_per_second = meter_.bytes_per_second();
    if (now.first_byte) status.time_to_first_byte = *now.first_byte - board_.started();
    if (!link_) return;
    status.transferred = stream.wire_bytes_sent;
    status.stream = stream;
    status.facts = bytes_of(*link_).facts();
  });
}

}  // namespace ramferry::migration
