// SPDX-License-Identifier: MIT
// From the pause to the end. See "One owner of the guest" and "The last harvest comes after the pause" in
// docs/design-notes.md.
#include "outgoing_engine.hpp"

namespace ramferry::migration {

using native::MessageType;

namespace {

/// A last word to a destination that may not listen takes no longer.
constexpr auto kLastWord = std::chrono::milliseconds(1000);
/// How often to look after the link while the switchover waits.
constexpr auto kLook = std::chrono::milliseconds(50);

Failure cancelled() {
  return fail(errc::cancelled, "migrating");
}

}  // namespace

Result<> OutgoingMigration::Engine::switch_over() {
  if (!settings_.pause_before_switchover && !board_.advance(State::device)) return cancelled();
  board_.step("pausing");
  RAMFERRY_TRY(pause_guest());
  board_.step("paused");
  if (settings_.pause_before_switchover) RAMFERRY_TRY(await_leave());
  board_.begin_round();
  RAMFERRY_TRY(out_->finish_all());
  board_.step("sent");
  RAMFERRY_TRY(check_stop());
  RAMFERRY_TRY(peer_ ? hand_over_native() : hand_over_bytes());
  resume_on_failure_ = false;
  board_.step("running");
  const Nanoseconds downtime = clock_.now() - *paused_at_;
  board_.update([&](Status& status) {
    status.hand_over = HandOver::running;
    status.downtime = downtime;
    status.expected_downtime.reset();
  });
  if (peer_) (void)bytes_of(*link_).finish(Deadline::after(kLastWord));
  return {};
}

Result<> OutgoingMigration::Engine::await_leave() {
  may_switch_over_ = false;
  if (!board_.advance(State::pre_switchover)) return cancelled();
  publish();
  while (!may_switch_over_) {
    stop_.sleep_until(clock_.now() + kLook, may_switch_over_);
    RAMFERRY_TRY(check_stop());
  }
  return board_.advance(State::device) ? Result<>() : cancelled();
}

void OutgoingMigration::Engine::proceed() noexcept {
  may_switch_over_ = true;
  stop_.wake();
}

Result<> OutgoingMigration::Engine::pause_guest() {
  RAMFERRY_TRY(check_stop());
  for (SectionHandler* each : sections_.in_order()) each->about_to_pause();
  guest_.wake_up();
  resume_on_failure_ = guest_.running();
  paused_at_ = clock_.now();
  if (auto paused = guest_.pause(); !paused) return within(std::move(paused).error(), "pausing the guest");
  return {};
}

Result<> OutgoingMigration::Engine::hand_over_native() {
  peer_->expect(MessageType::prepared);
  RAMFERRY_TRY(out_->end());
  // Everything is sent. A cancel now first tells the destination, which is told apart there from a broken
  // link.
  stop_.on_cancel([this] { peer_->interrupt(kLastWord); });
  board_.step("ended");
  const auto prepared = peer_->await_prepared();
  board_.step("prepared");
  if (prepared) board_.update([](Status& status) { status.hand_over = HandOver::prepared; });
  if (!prepared || !stop_.commit()) {
    const Error why = true_reason(prepared ? Error{} : prepared.error());
    say_goodbye(why);
    return Failure(why);
  }

  // From here the source never runs the guest by itself.
  resume_on_failure_ = false;
  board_.update([](Status& status) { status.hand_over = HandOver::committed; });
  if (auto done = peer_->commit(); !done) return outcome_unknown(std::move(done).error());
  return {};
}

void OutgoingMigration::Engine::say_goodbye(const Error& why) {
  if (peer_->reason({}).code) return;  // it knows, or cannot hear
  peer_->interrupt(kLastWord);
  if (peer_->say(MessageType::failed, native::encode_failed(why.message())))
    (void)bytes_of(*link_).finish(Deadline::after(kLastWord));
}

Failure OutgoingMigration::Engine::outcome_unknown(Error why) {
  board_.update([](Status& status) { status.hand_over = HandOver::unknown; });
  const Error cause = peer_ ? peer_->reason(std::move(why)) : std::move(why);
  return fail(errc::outcome_unknown, "handing the guest over: " + cause.message(),
              "ask the destination whether it runs the guest; only if it does not, resume it here by force");
}

Result<> OutgoingMigration::Engine::hand_over_bytes() {
  ByteStream& stream = bytes_of(*link_);
  const bool revocable = stream.all_or_nothing();
  // What a socket took may be read, and the guest be run, without our hearing of it.
  if (!revocable) {
    if (!stop_.commit()) return cancelled();
    resume_on_failure_ = false;
    board_.update([](Status& status) { status.hand_over = HandOver::committed; });
  }
  const auto give = [&]() -> Result<> {
    RAMFERRY_TRY(out_->end());
    return stream.finish(Deadline::never());
  };
  if (auto given = give(); !given) return revocable ? given : outcome_unknown(std::move(given).error());
  return {};
}

}  // namespace ramferry::migration
