// SPDX-License-Identifier: MIT
// The destination, in the order things happen: accept, greet, load, prepared, commit, running.
#include "status_board.hpp"
#include "stop_switch.hpp"

#include <ramferry/migration/incoming.hpp>
#include <ramferry/migration/native_protocol.hpp>
#include <ramferry/migration/savevm.hpp>

#include <mutex>

namespace ramferry::migration {

using native::MessageType;

namespace {

/// Waiting for the source to hang up after the last message takes no longer.
constexpr auto kFarewell = std::chrono::milliseconds(2000);
constexpr auto kRevoke = std::chrono::milliseconds(10'000);

/// The destination's end of the conversation about slots.
class DestinationLink final : public SlotLink {
 public:
  explicit DestinationLink(Channel& channel) : channel_(channel) {}
  Channel& channel() noexcept override { return channel_; }
  bool blank_destination() const noexcept override { return false; }
  Result<> slots_ready() override { return native::send_message(channel_, MessageType::slots_ready); }
  Result<> await_slots() override { return fail(errc::wrong_state, "waiting for slots as the destination"); }

 private:
  Channel& channel_;
};

}  // namespace

class IncomingMigration::Engine {
 public:
  Engine(SectionRegistry& sections, IncomingHooks& hooks, IncomingSettings settings, Clock& clock, Log& log)
      : sections_(sections),
        hooks_(hooks),
        settings_(std::move(settings)),
        clock_(clock),
        log_(log),
        board_(clock, log, true) {}

  void observe(Observer& observer) { board_.observe(observer); }
  Result<> run(Listener& listener, std::string uri);
  void cancel() noexcept;
  Status status() const;

 private:
  Result<> receive(Listener& listener);
  Result<> accept(Listener& listener);
  Result<> greet(StreamReader& in);
  Result<> load(StreamReader& in);
  Result<> attach();
  Result<> await_commit(StreamReader& in);
  Result<> take_over();
  void part_from_source(StreamReader& in, const Result<>& result);
  void publish();
  void count_bytes(Status& status) const;
  Result<> conclude(Result<> result);
  Failure outcome_unknown(const std::string& why);

  SectionRegistry& sections_;
  IncomingHooks& hooks_;
  IncomingSettings settings_;
  Clock& clock_;
  Log& log_;
  StatusBoard board_;
  StopSwitch stop_;
  mutable std::mutex link_mutex_;  ///< who asks for the status looks at the link while it stands
  std::unique_ptr<Link> link_;
  Channel* channel_ = nullptr;  ///< native only
  std::unique_ptr<DestinationLink> slots_;
  std::vector<SectionHandler*> attached_;
};

IncomingMigration::IncomingMigration(SectionRegistry& sections, IncomingHooks& hooks,
                                     IncomingSettings settings, Clock& clock, Log& log)
    : engine_(std::make_unique<Engine>(sections, hooks, std::move(settings), clock, log)) {}

IncomingMigration::~IncomingMigration() = default;
void IncomingMigration::observe(Observer& observer) {
  engine_->observe(observer);
}
Result<> IncomingMigration::run(Listener& listener, std::string uri) {
  return engine_->run(listener, std::move(uri));
}
void IncomingMigration::cancel() noexcept {
  engine_->cancel();
}
Status IncomingMigration::status() const {
  return engine_->status();
}

void IncomingMigration::Engine::cancel() noexcept {
  if (!may_follow(board_.state(), State::cancelling)) return;
  log_.debug("migration cancel");
  if (stop_.cancel()) board_.advance(State::cancelling);
}

Result<> IncomingMigration::Engine::run(Listener& listener, std::string uri) {
  board_.start(std::move(uri));
  if (!board_.advance(State::setup)) return fail(errc::wrong_state, "taking a migration a second time");
  const SectionRegistry::Hold hold(sections_);
  return conclude(receive(listener));
}

Result<> IncomingMigration::Engine::receive(Listener& listener) {
  RAMFERRY_TRY(accept(listener));
  board_.advance(State::active);
  StreamReader in(bytes_of(*link_));
  const auto taking = [&]() -> Result<> {
    if (channel_ != nullptr) RAMFERRY_TRY(greet(in));
    RAMFERRY_TRY(load(in));
    if (channel_ != nullptr) RAMFERRY_TRY(await_commit(in));
    return take_over();
  };
  Result<> result = taking();
  publish();
  part_from_source(in, result);
  return result;
}

Result<> IncomingMigration::Engine::accept(Listener& listener) {
  stop_.on_cancel([&listener] { listener.cancel(); });
  auto link = listener.accept(Deadline::never());
  stop_.on_cancel({});
  if (!link) return Failure(std::move(link).error());
  {
    const std::lock_guard lock(link_mutex_);
    link_ = std::make_unique<Link>(std::move(*link));
  }
  if (auto* channel = std::get_if<std::unique_ptr<Channel>>(link_.get())) {
    channel_ = channel->get();
    board_.update([&](Status& status) { status.session = channel_->session(); });
  }
  stop_.on_cancel([this] { bytes_of(*link_).cancel(); });
  board_.connected(bytes_of(*link_).facts());
  return {};
}

Result<> IncomingMigration::Engine::greet(StreamReader& in) {
  in.set_deadline(Deadline::after(settings_.hand_over_timeout));
  RAMFERRY_TRY_ASSIGN(const auto message, native::read_message(in));
  in.set_deadline(Deadline::never());
  RAMFERRY_TRY_ASSIGN(const auto hello, native::accept_hello(message, native::feature::kKnown));
  if (hello.machine != settings_.machine)
    return fail(
        errc::invalid_argument,
        "loading machine '" + hello.machine.substr(0, 255) + "' into machine '" + settings_.machine + "'",
        "start the destination as the same machine");
  Progress progress;
  bool blank = true;
  for (const SectionHandler* each : sections_.in_order()) {
    each->report(progress);
    blank = blank && each->blank_memory();
  }
  if (progress.page_bytes != 0 && hello.page_bytes != progress.page_bytes)
    return fail(errc::invalid_argument, "the source has pages of " + std::to_string(hello.page_bytes) +
                                            " bytes, this machine of " + std::to_string(progress.page_bytes));
  native::HelloReply reply;
  reply.blank = blank;
  return native::send_message(*channel_, MessageType::hello_reply, native::encode(reply));
}

Result<> IncomingMigration::Engine::attach() {
  if (channel_ != nullptr) slots_ = std::make_unique<DestinationLink>(*channel_);
  for (SectionHandler* each : sections_.in_order()) {
    attached_.push_back(each);
    if (auto done = each->attach(slots_.get()); !done)
      return within(std::move(done).error(), "preparing section '" + each->id().name + "'");
  }
  return {};
}

Result<> IncomingMigration::Engine::load(StreamReader& in) {
  RAMFERRY_TRY(attach());
  SavevmReader savevm(in, sections_);
  board_.step("attached");
  RAMFERRY_TRY(savevm.load(settings_.machine));
  board_.step("loaded");
  if (!board_.advance(State::device)) return fail(errc::cancelled, "loading the guest");
  if (auto prepared = hooks_.prepare(); !prepared)
    return within(std::move(prepared).error(), "preparing to take the guest over");
  return {};
}

Result<> IncomingMigration::Engine::await_commit(StreamReader& in) {
  // Windows close before the source may hand the guest over: a failure here still leaves it there.
  board_.step("revoking");
  RAMFERRY_TRY(channel_->revoke(Deadline::after(kRevoke)));
  board_.step("revoked");
  board_.update([](Status& status) { status.hand_over = HandOver::prepared; });
  // A source that left before this may have said why: then it keeps the guest, and nothing is unknown.
  const auto sent = native::send_message(*channel_, MessageType::prepared);
  in.set_deadline(Deadline::after(sent ? settings_.hand_over_timeout : std::chrono::milliseconds(0)));
  auto ours = native::committed(sent, native::read_message(in));
  if (ours) return {};
  if (ours.error().is(errc::outcome_unknown)) return outcome_unknown(ours.error().doing);
  board_.update([](Status& status) { status.hand_over = HandOver::none; });
  return ours;
}

Failure IncomingMigration::Engine::outcome_unknown(const std::string& why) {
  board_.update([](Status& status) { status.hand_over = HandOver::unknown; });
  return fail(errc::outcome_unknown, "waiting for the guest to be handed over: " + why,
              "ask the source whether it still has the guest; only if it does not, resume it here by force");
}

Result<> IncomingMigration::Engine::take_over() {
  if (!stop_.commit()) {
    const Error cancelled{make_error_code(errc::cancelled), "taking the guest over", {}};
    if (channel_ == nullptr) return Failure(cancelled);
    return outcome_unknown(cancelled.message());
  }
  board_.update([](Status& status) { status.hand_over = HandOver::committed; });
  board_.step("committed");
  if (auto taken = hooks_.take_over(); !taken)
    return within(std::move(taken).error(), "taking the guest over, which is ours now");
  board_.update([](Status& status) { status.hand_over = HandOver::running; });
  if (channel_ != nullptr) {
    if (auto sent = native::send_message(*channel_, MessageType::running); !sent)
      log_.warn("the source does not know that the guest runs here: " + sent.error().message());
  }
  board_.advance(State::completed);
  board_.step("running");
  return {};
}

/// Tells the source why, if it failed, and lets it hang up first, so that our last message is not lost with
/// the link.
void IncomingMigration::Engine::part_from_source(StreamReader& in, const Result<>& result) {
  ByteStream& stream = bytes_of(*link_);
  const Deadline until = Deadline::after(kFarewell);
  if (channel_ == nullptr) {
    if (result) (void)stream.finish(until);
    return;
  }
  if (!result && !result.error().is(errc::outcome_unknown)) {
    const auto text = native::encode_failed(result.error().message());
    if (!native::send_message(*channel_, MessageType::failed, text)) return;
  }
  if (!stream.finish(until)) return;
  in.set_deadline(until);
  while (in.skip(1)) {
  }
}

void IncomingMigration::Engine::publish() {
  Progress now;
  for (const SectionHandler* each : sections_.in_order()) each->report(now);
  board_.update([&](Status& status) {
    status.ram_total = now.bytes_total;
    if (now.page_bytes != 0) status.page_bytes = now.page_bytes;
    count_bytes(status);
    status.facts = bytes_of(*link_).facts();
  });
}

void IncomingMigration::Engine::count_bytes(Status& status) const {
  status.stream = bytes_of(*link_).stats();
  status.transferred = status.stream.wire_bytes_received;
}

Status IncomingMigration::Engine::status() const {
  Status status = board_.snapshot();
  const std::lock_guard lock(link_mutex_);
  if (link_) count_bytes(status);
  return status;
}

Result<> IncomingMigration::Engine::conclude(Result<> result) {
  stop_.on_cancel({});
  if (!result && stop_.cancelled() && !result.error().is(errc::outcome_unknown))
    result = fail(errc::cancelled, "waiting for a migration");
  if (!result) {
    board_.failed(result.error());
    if (!result.error().is(errc::cancelled)) log_.error(result.error().message());
  }
  // Deregistering happens here, outside the downtime; and before the sections give back what the channel
  // uses.
  {
    const std::lock_guard lock(link_mutex_);
    link_.reset();
  }
  channel_ = nullptr;
  for (SectionHandler* each : attached_) {
    if (!result && result.error().is(errc::cancelled)) each->cancel();
    each->cleanup();
  }
  attached_.clear();
  board_.cleaned_up();
  if (result) return result;
  if (result.error().is(errc::cancelled)) {
    board_.advance(State::cancelling);
    board_.advance(State::cancelled);
  } else {
    board_.advance(State::failed);
  }
  return result;
}

}  // namespace ramferry::migration
