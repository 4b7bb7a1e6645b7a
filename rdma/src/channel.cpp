// SPDX-License-Identifier: MIT
// Making and ending a channel, its bytes and its facts. The event thread is in channel_events.cpp.
#include "channel.hpp"

#include "completion_id.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

namespace ramferry::rdma {
namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kLaneDepth = 512;        // writes and fences posted on a lane
constexpr std::uint32_t kAllLanesDepth = 16384;  // on all lanes together: completion queues are finite
constexpr int kRegistrars = 2;
constexpr auto kLinger = milliseconds(2000);

std::uint32_t lane_depth(std::uint32_t lanes) noexcept {
  return std::min(kLaneDepth, kAllLanesDepth / lanes);
}

Result<std::thread> start_thread(std::function<void()> body) {
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error& error) {
    return fail(error.code(), "starting a thread");
  }
}

}  // namespace

RdmaChannel::RdmaChannel(Parts parts)
    : core_(parts.log, parts.options, std::move(parts.domain)),
      session_(parts.session),
      lanes_(parts.lanes),
      dials_(parts.dials) {}

std::uint32_t RdmaChannel::completions_for(std::uint32_t lanes) noexcept {
  const QueueShape control = control_shape(), lane = lane_shape(lanes);
  return control.sends + control.receives + lanes * (lane.sends + lane.receives) + 16;
}

QueueShape RdmaChannel::lane_shape(std::uint32_t lanes) noexcept {
  return {lane_depth(lanes) + 2, Inbound::kReceives};
}

Result<std::unique_ptr<RdmaChannel>> RdmaChannel::make(Parts parts) {
  std::unique_ptr<RdmaChannel> channel(new RdmaChannel(std::move(parts)));
  RAMFERRY_TRY(channel->prepare_parts());
  return channel;
}

Result<> RdmaChannel::prepare_parts() {
  RAMFERRY_TRY_ASSIGN(control_,
                      ControlLink::make(core_, make_id(Work::control_send), make_id(Work::control_receive)));
  const auto workers = [this] { start_workers(); };
  outbound_ = std::make_unique<Outbound>(core_, *control_, workers);
  inbound_ = std::make_unique<Inbound>(core_, *control_, lanes_, workers);
  RAMFERRY_TRY(outbound_->prepare_lanes(lanes_, lane_depth(lanes_),
                                        [](std::uint32_t lane) { return make_id(Work::lane_send, lane); }));
  RAMFERRY_TRY(inbound_->prepare_lanes([](std::uint32_t lane) { return make_id(Work::lane_receive, lane); }));
  lane_receives_.resize(lanes_, 0);
  return {};
}

void RdmaChannel::attach_control(std::unique_ptr<QueuePair> queue, std::uint16_t peer_receives,
                                 milliseconds peer_timeout) {
  const Lock lock(core_.mutex);
  peer_timeout_ = peer_timeout;
  control_->attach(std::move(queue), peer_receives);
}

void RdmaChannel::attach_lane(std::uint32_t lane, std::unique_ptr<QueuePair> queue) {
  const Lock lock(core_.mutex);
  outbound_->attach(lane, std::move(queue));
  lane_receives_[lane] += Inbound::kReceives;  // some may have come back already
  welcome_if_complete();
}

Result<> RdmaChannel::start(std::function<void()> on_ready) {
  on_ready_ = std::move(on_ready);
  RAMFERRY_TRY_ASSIGN(events_, start_thread([this] { run(); }));
  return {};
}

Result<> RdmaChannel::await_peer(Deadline deadline) {
  Lock lock(core_.mutex);
  control_->post(Start{static_cast<std::uint16_t>(lanes_)});
  return core_.wait_until(lock, deadline, "waiting for the destination", [this] { return ready_; });
}

bool RdmaChannel::is_ready() const {
  const Lock lock(core_.mutex);
  return ready_;
}

bool RdmaChannel::has_failed() const {
  const Lock lock(core_.mutex);
  return core_.failure.has_value();
}

bool RdmaChannel::has_lane(std::uint32_t lane) const {
  const Lock lock(core_.mutex);
  return outbound_->queue(lane) != nullptr;
}

void RdmaChannel::start_workers() {
  if (!workers_.empty() || stop_) return;
  for (int i = 0; i <= kRegistrars; ++i) {
    auto thread = start_thread([this, i] { i == kRegistrars ? apply() : work(); });
    if (!thread) return core_.fail_with(std::move(thread).error());
    workers_.push_back(std::move(*thread));
  }
}

void RdmaChannel::work() {
  Lock lock(core_.mutex);
  while (!stop_) {
    if (core_.failure || !(outbound_->work(lock) || inbound_->work(lock))) core_.work.wait(lock);
  }
}

void RdmaChannel::apply() {
  Lock lock(core_.mutex);
  while (!stop_) {
    if (!inbound_->apply(lock)) core_.work.wait(lock);
  }
}

void RdmaChannel::linger(Lock& lock) {
  // Unlike a socket's, our buffers end with us: what was sent has to be in the peer's before that.
  const auto until = Deadline::after(std::min<milliseconds>(kLinger, core_.options.peer_timeout));
  const auto hopeless = [this] {
    return core_.failure && (core_.failure->is(errc::peer_gone) || core_.failure->is(errc::cancelled));
  };
  const auto said = [this] { return !core_.failure || said_why_; };
  while (events_.joinable() && !(control_->drained() && said()) && !hopeless() && !until.passed())
    Core::wait_once(core_.changed, lock, until);
}

RdmaChannel::~RdmaChannel() {
  {
    Lock lock(core_.mutex);
    if (control_) linger(lock);
    stop_ = true;
    core_.work.notify_all();
  }
  core_.domain->wake();
  if (events_.joinable()) events_.join();
  for (std::thread& worker : workers_) worker.join();
  // The peer is told first; then queue pairs go before the memory they use.
  if (control_) control_->disconnect();
  for (std::uint32_t lane = 0; outbound_ && inbound_ && lane < lanes_; ++lane)
    outbound_->attach(lane, nullptr);
  if (control_) control_->attach(nullptr, 0);
}

Result<> RdmaChannel::send(ConstBytes bytes) {
  Lock lock(core_.mutex);
  if (finished_) return fail(errc::wrong_state, "sending after the end");
  while (!bytes.empty()) {
    const ConstBytes piece = bytes.first(std::min(bytes.size(), kMostBody));
    RAMFERRY_TRY(core_.wait_until(lock, Deadline::never(), "sending",
                                  [&] { return control_->has_room() && control_->fits(piece.size()); }));
    control_->post(BytesMessage{piece});
    core_.counters.message_bytes_sent.add(piece.size());
    bytes = bytes.subspan(piece.size());
  }
  return core_.check("sending");
}

Result<std::size_t> RdmaChannel::receive(Bytes into, Deadline deadline) {
  Lock lock(core_.mutex);
  while (true) {
    if (core_.failure && core_.failure->is(errc::cancelled)) break;
    if (const std::size_t count = inbound_->bytes().pop(into); count > 0) {
      control_->consumed(count);
      core_.counters.message_bytes_received.add(count);
      return count;
    }
    if (inbound_->bytes().is_at_end()) return 0U;
    if (core_.failure) break;
    if (deadline.passed()) return fail(errc::timed_out, "receiving");
    Core::wait_once(core_.arrived, lock, deadline);
  }
  return within(*core_.failure, "receiving");
}

Result<> RdmaChannel::finish(Deadline deadline) {
  Lock lock(core_.mutex);
  RAMFERRY_TRY(core_.check("finishing"));
  if (!std::exchange(finished_, true)) control_->post(Finish{});
  return core_.wait_until(lock, deadline, "finishing", [this] { return control_->drained(); });
}

void RdmaChannel::cancel() noexcept {
  const Lock lock(core_.mutex);
  core_.fail_with({make_error_code(errc::cancelled), "using the channel", {}});
}

Facts RdmaChannel::facts() const {
  const Lock lock(core_.mutex);
  const auto silence = std::chrono::duration_cast<milliseconds>(outbound_->longest_silence());
  const DeviceFacts& device = core_.domain->device();
  const bool all = core_.options.pin == Pin::all;
  Facts facts{{"device", device.name},
              {"gid", device.gid},
              {"mtu", std::to_string(device.mtu)},
              {"lanes", std::to_string(lanes_)},
              {"pin", all ? "all" : "demand"}};
  if (!all) facts.emplace_back("pin-budget", format_size(core_.plan.budget));
  facts.emplace_back("chunk", format_size(core_.plan.chunk));
  facts.emplace_back("pinned", format_size(core_.counters.pinned_bytes.get()));
  facts.emplace_back("peak-pinned", format_size(core_.counters.peak_pinned_bytes.get()));
  facts.emplace_back("longest-silence", std::to_string(silence.count()) + " ms");
  return facts;
}

}  // namespace ramferry::rdma
