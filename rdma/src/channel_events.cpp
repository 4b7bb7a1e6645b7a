// SPDX-License-Identifier: MIT
// The event thread: completions, messages, connection events, heartbeats; and closing the lanes, which it
// sees through.
#include "channel.hpp"
#include "completion_id.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

namespace ramferry::rdma {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kBatch = 64;
constexpr auto kGrace = milliseconds(200);  // for the peer's last words

/// Picks the branch of a visit.
template <class... Branches>
struct Overloaded : Branches... {
  using Branches::operator()...;
};
template <class... Branches>
Overloaded(Branches...) -> Overloaded<Branches...>;

}  // namespace

void RdmaChannel::run() {
  std::array<Completion, kBatch> batch;
  std::optional<LinkEvent> event;
  Lock lock(core_.mutex);
  while (!stop_) {
    // What came before an event is dealt with before it: so look for events first, and act on them last.
    if (!event) event = core_.domain->next_event();
    const auto polled = core_.domain->poll(batch);
    if (!polled) core_.fail_with(polled.error());
    for (std::size_t i = 0; polled && i < *polled; ++i) handle(lock, batch[i]);
    if (polled && *polled > 0) continue;
    if (event) {
      on_event(*event);
      event.reset();
      continue;
    }
    say_why();
    const Deadline next = tick();
    lock.unlock();
    core_.domain->wait(next);
    lock.lock();
  }
}

void RdmaChannel::handle(Lock& lock, const Completion& completion) {
  core_.counters.completions.add(1);
  const std::uint32_t lane = lane_of(completion.id);
  const std::uint64_t number = number_of(completion.id);
  const Work work = work_of(completion.id);
  if (work == Work::lane_receive) return on_lane_received(lane, number, completion);
  if (completion.error) {
    if (work == Work::lane_send)
      return on_lane_error(completion.error, "writing on lane " + std::to_string(lane));
    control_->on_broken();
    return on_lost({completion.error, "using the control connection", {}});
  }
  Result<> done;
  if (work == Work::control_send) control_->on_sent(number);
  if (work == Work::control_receive) done = on_control_received(lock, number, completion.bytes);
  if (work == Work::lane_send) done = outbound_->on_completed(lane, completion.id);
  if (!done) core_.fail_with(std::move(done).error());
}

void RdmaChannel::on_lane_received(std::uint32_t lane, std::size_t buffer, const Completion& completion) {
  --lane_receives_[lane];
  if (lanes_closed_) return core_.changed.notify_all();
  if (completion.error) return on_lane_error(completion.error, "receiving on lane " + std::to_string(lane));
  QueuePair* const queue = outbound_->queue(lane);
  if (queue == nullptr)  // only who waits for our word knows that we have it
    return core_.fail_with(fail(errc::protocol_mismatch, "receiving on a lane before the start").value());
  auto done = inbound_->on_lane(lane, buffer, completion.bytes);
  if (!done) return core_.fail_with(std::move(done).error());
  // Only now, as it was read; the acknowledgement that may have left allows a fence for which there are
  // others (kReceives).
  const Receive again = inbound_->receive(lane, buffer);
  const Posted posted = queue->post_receives({&again, 1});
  if (posted.error)
    core_.fail_with({posted.error, "posting a receive on lane " + std::to_string(lane), {}});
  else
    ++lane_receives_[lane];
}

void RdmaChannel::on_lane_error(std::error_code error, std::string doing) {
  // The peer closes its lanes when it fails, and says why on the control connection: that may be a moment
  // later.
  if (lanes_closed_ || lane_error_) return;
  lane_error_ = Error{error, std::move(doing), {}};
  lane_error_due_ = steady_clock::now() + kGrace;
}

Result<> RdmaChannel::on_control_received(Lock& lock, std::size_t buffer, std::uint32_t bytes) {
  RAMFERRY_TRY_ASSIGN(Frame frame, control_->on_received(buffer, bytes));
  RAMFERRY_TRY(dispatch(lock, frame));
  control_->recycle(buffer);
  return {};
}

Result<> RdmaChannel::dispatch(Lock& lock, Frame& frame) {
  const bool harmless = std::holds_alternative<BytesMessage>(frame.message) ||
                        std::holds_alternative<Finish>(frame.message) ||
                        std::holds_alternative<Farewell>(frame.message);
  if (core_.failure && !harmless) return {};
  const std::uint64_t data = frame.data_bytes;
  return std::visit(
      Overloaded{
          [&](const Start& m) { return on_start(m); },
          [&](const Welcome&) { return on_welcome(); },
          [&](const BytesMessage& m) { return inbound_->on_message(m); },
          [&](ZeroMessage& m) { return inbound_->on_message(std::move(m), data); },
          [&](const StoreMessage& m) { return inbound_->on_message(m, data); },
          [&](const Finish&) -> Result<> {
            inbound_->on_finish();
            return {};
          },
          [&](const WantMessage& m) { return inbound_->on_message(m); },
          [&](const GrantMessage& m) { return outbound_->on_message(m); },
          [&](const ByMessage& m) { return outbound_->on_message(m); },
          [&](const Reclaim& m) -> Result<> {
            outbound_->on_message(m);
            return {};
          },
          [&](const ReleaseMessage& m) { return inbound_->on_message(lock, m); },
          [&](const FenceMessage& m) { return inbound_->on_message(m); },
          [&](const Settled& m) { return outbound_->on_message(m); },
          [&](const Revoked& m) {
            lanes_closed_ = lanes_closed_ || m.lanes_closed;
            return outbound_->on_message(m);
          },
          [&](const Heartbeat&) -> Result<> { return {}; },
          [&](const Farewell& m) -> Result<> { return fail(errc::peer_failed, "the other end: " + m.text); },
      },
      frame.message);
}

Result<> RdmaChannel::on_start(const Start& start) {
  if (dials_ || start.lanes != lanes_ || started_)
    return fail(errc::protocol_mismatch, "starting: not with these lanes");
  started_ = true;
  welcome_if_complete();
  return {};
}

Result<> RdmaChannel::on_welcome() {
  if (!dials_ || ready_) return fail(errc::protocol_mismatch, "starting: it is not the peer who welcomes");
  set_ready();
  return {};
}

void RdmaChannel::welcome_if_complete() {
  // The peer may be faster in using a lane than we in noting down that it is there.
  bool complete = started_ && !ready_;
  for (std::uint32_t lane = 0; lane < lanes_; ++lane)
    complete = complete && outbound_->queue(lane) != nullptr;
  if (!complete) return;
  control_->post(Welcome{});
  set_ready();
}

void RdmaChannel::set_ready() {
  if (std::exchange(ready_, true)) return;
  core_.changed.notify_all();
  if (on_ready_) on_ready_();
}

void RdmaChannel::on_event(const LinkEvent& event) {
  if (event.connection_lost) control_->on_broken();
  on_lost({event.error, "using the connection: " + event.what, {}});
}

/// What a device has refused on a lane says more than that the peer left over it.
void RdmaChannel::on_lost(Error error) {
  const bool refused = lane_error_ && !lane_error_->is(errc::peer_gone);
  core_.fail_with(refused ? *lane_error_ : std::move(error));
}

void RdmaChannel::close_lanes() noexcept {
  for (std::uint32_t lane = 0; lane < lanes_; ++lane) {
    if (QueuePair* queue = outbound_->queue(lane)) queue->to_error();
  }
}

void RdmaChannel::say_why() {
  if (!core_.failure || said_why_) return;
  said_why_ = true;
  // Nothing more may land from a peer that we have given up, and it should not have to find out by silence.
  lanes_closed_ = true;
  close_lanes();
  const Error& why = *core_.failure;
  if (why.is(errc::cancelled))
    control_->disconnect();
  else if (!why.is(errc::peer_gone) && !why.is(errc::peer_failed))
    control_->post(Farewell{why.message()});
  if (on_ready_ && !ready_) on_ready_();  // whoever waits for it to be ready looks again
  core_.changed.notify_all();
}

Deadline RdmaChannel::tick() {
  if (control_->is_stuck()) {
    control_->pump();
    return Deadline::after(milliseconds(1));
  }
  if (core_.failure) return Deadline::after(core_.options.peer_timeout);
  const auto now = steady_clock::now();
  if (lane_error_ && now >= lane_error_due_) core_.fail_with(*std::exchange(lane_error_, std::nullopt));
  if (lane_error_) return Deadline::at(lane_error_due_);
  // Who was stopped itself has not heard the peer either: it gets its time anew.
  if (now - due_ > core_.options.peer_timeout / 2) control_->heard_now();
  const auto silence = now - control_->last_heard();
  if (silence > core_.options.peer_timeout) {
    core_.fail_with(
        {make_error_code(errc::peer_gone),
         "waiting " + std::to_string(core_.options.peer_timeout.count() / 1000) + " s for a sign of life",
         "the peer or the link may be frozen; peer-timeout= sets how long to wait"});
    return Deadline::after(milliseconds(0));
  }
  const auto interval = std::min(peer_timeout_, core_.options.peer_timeout) / 4;
  if (now - control_->last_sent() >= interval && control_->has_room()) control_->post(Heartbeat{});
  const auto next_beat =
      std::max(control_->last_sent(), now - interval / 2) + interval;  // it may not have left
  due_ = std::min(next_beat, control_->last_heard() + core_.options.peer_timeout);
  return Deadline::at(due_);
}

Result<> RdmaChannel::revoke(Deadline deadline) {
  Lock lock(core_.mutex);
  inbound_->close();
  RAMFERRY_TRY(await_closed(lock, deadline, [this] { return !inbound_->is_landing(); }));
  // An end that places too needs its lanes, so it takes the registrations away instead. That takes longer.
  const bool by_lanes = lanes_closed_ || !outbound_->was_used();
  if (!std::exchange(revoked_, true)) control_->post(Revoked{by_lanes});
  if (!by_lanes) {
    auto regions = inbound_->take_regions();
    lock.unlock();
    regions.clear();
    return {};
  }
  lanes_closed_ = true;
  outbound_->on_lanes_closed();
  close_lanes();
  // A receive that comes back flushed proves that the device takes in nothing more on that lane.
  return await_closed(lock, deadline, [this] {
    return std::all_of(lane_receives_.begin(), lane_receives_.end(),
                       [](std::ptrdiff_t posted) { return posted == 0; });
  });
}

Result<> RdmaChannel::await_closed(Lock& lock, Deadline deadline, const std::function<bool()>& closed) {
  // Not Core::wait_until(): a failed channel's windows are closed all the same.
  while (!closed()) {
    if (deadline.passed()) return fail(errc::timed_out, "closing the windows");
    Core::wait_once(core_.changed, lock, deadline);
  }
  return {};
}

}  // namespace ramferry::rdma
