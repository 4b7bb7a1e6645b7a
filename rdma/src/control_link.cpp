// SPDX-License-Identifier: MIT
#include "control_link.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::uint32_t kKeptCredits = 4;
constexpr std::uint32_t kOwedAtMost = kControlReceives / 4;
constexpr std::size_t kWaitingAtMost = 64;  // data messages queue up to here
/// Twice what answers to all that a peer may ask for take, each in a message of its own.
constexpr std::uint64_t kOutboxAtMost = 64 << 20;

/// What a message takes while it waits.
std::uint64_t kept_bytes(const std::vector<std::byte>& frame) noexcept {
  return frame.size() + 64;
}

}  // namespace

Result<std::unique_ptr<ControlLink>> ControlLink::make(Core& core, std::uint64_t send_id,
                                                       std::uint64_t receive_id) {
  std::unique_ptr<ControlLink> link(new ControlLink(core));
  link->send_id_ = send_id;
  link->receive_id_ = receive_id;
  link->buffers_.resize((kControlSends + kControlReceives) * kFrameBytes);
  RAMFERRY_TRY_ASSIGN(link->region_, core.pin(link->buffers_, Rights::receive_into));
  for (std::size_t i = 0; i < kControlSends; ++i) link->free_sends_.push_back(i);
  return link;
}

Bytes ControlLink::send_buffer(std::size_t index) const noexcept {
  return region_->memory().subspan(index * kFrameBytes, kFrameBytes);
}

Bytes ControlLink::receive_buffer(std::size_t index) const noexcept {
  return region_->memory().subspan((kControlSends + index) * kFrameBytes, kFrameBytes);
}

Receive ControlLink::receive(std::size_t index) const noexcept {
  const Bytes into = receive_buffer(index);
  return {into.data(), static_cast<std::uint32_t>(into.size()), region_->local_key(), receive_id_ + index};
}

std::vector<Receive> ControlLink::receives() const {
  std::vector<Receive> all;
  for (std::size_t i = 0; i < kControlReceives; ++i) all.push_back(receive(i));
  return all;
}

void ControlLink::attach(std::unique_ptr<QueuePair> queue, std::uint16_t peer_receives) {
  queue_ = std::move(queue);
  credits_ = peer_receives;
  last_sent_ = last_heard_ = std::chrono::steady_clock::now();
}

void ControlLink::post(const Message& message) {
  if (outbox_bytes_ > kOutboxAtMost)
    return core_.fail_with({make_error_code(errc::protocol_mismatch),
                            "answering the peer: it does not take the answers in",
                            {}});
  outbox_.push_back(encode(message));
  outbox_bytes_ += kept_bytes(outbox_.back());
  data_sent_ += data_bytes(outbox_.back());
  pump();
}

bool ControlLink::has_room() const noexcept {
  return outbox_.size() < kWaitingAtMost;
}

bool ControlLink::fits(std::uint64_t bytes) const noexcept {
  return data_sent_ - peer_consumed_ + bytes <= kDataBuffer;
}

void ControlLink::pump() {
  const bool was_stuck = std::exchange(stuck_, false);
  send_waiting();
  // The event thread tries again; it may be asleep until the next heartbeat.
  if (stuck_ && !was_stuck) core_.domain->wake();
}

void ControlLink::send_waiting() {
  while (!outbox_.empty() && !free_sends_.empty() && credits_ > kKeptCredits) {
    if (!send_frame(outbox_.front())) return;
    outbox_bytes_ -= kept_bytes(outbox_.front());
    outbox_.pop_front();
  }
  if (owes_much() && credits_ > 0 && !free_sends_.empty()) {
    std::vector<std::byte> frame = encode(Heartbeat{});
    send_frame(frame);
  }
}

bool ControlLink::owes_much() const noexcept {
  return owed_ >= kOwedAtMost || data_consumed_ - consumed_told_ >= kDataBuffer / 4;
}

bool ControlLink::send_frame(std::vector<std::byte>& frame) {
  if (!queue_ || is_broken_) return false;
  const std::size_t buffer = free_sends_.back();
  stamp(frame, {static_cast<std::uint16_t>(owed_), data_consumed_});
  const Bytes into = send_buffer(buffer);
  std::memcpy(into.data(), frame.data(), frame.size());
  const WorkRequest request{.kind = WorkRequest::Kind::send,
                            .signaled = true,
                            .local = into.data(),
                            .length = static_cast<std::uint32_t>(frame.size()),
                            .local_key = region_->local_key(),
                            .id = send_id_ + buffer};
  const Posted posted = queue_->post({&request, 1});
  if (posted.error == std::errc::not_enough_memory) {
    stuck_ = true;  // the device's queue is shorter than it said
    return false;
  }
  if (posted.error) {
    on_broken();
    core_.fail_with({posted.error, "sending a control message", {}});
    return false;
  }
  free_sends_.pop_back();
  owed_ = 0;
  consumed_told_ = data_consumed_;
  --credits_;
  last_sent_ = std::chrono::steady_clock::now();
  core_.counters.wire_bytes_sent.add(frame.size());
  return true;
}

void ControlLink::on_broken() noexcept {
  is_broken_ = true;
  core_.changed.notify_all();
}

void ControlLink::on_sent(std::size_t buffer) {
  free_sends_.push_back(buffer);
  pump();
  if (drained() || has_room()) core_.changed.notify_all();
}

Result<Frame> ControlLink::on_received(std::size_t buffer, std::uint32_t bytes) {
  core_.counters.wire_bytes_received.add(bytes);
  heard_now();
  RAMFERRY_TRY_ASSIGN(Frame frame,
                      decode(receive_buffer(buffer).first(std::min<std::size_t>(bytes, kFrameBytes))));
  credits_ += frame.header.credits;
  if (credits_ > kControlReceives * 16U)
    return fail(errc::protocol_mismatch, "reading a control message: too many credits");
  if (frame.header.consumed < peer_consumed_ || frame.header.consumed > data_sent_)
    return fail(errc::protocol_mismatch, "reading a control message: it took in what we did not send");
  peer_consumed_ = frame.header.consumed;
  data_received_ += frame.data_bytes;
  if (unconsumed() > kDataBuffer)
    return fail(errc::protocol_mismatch, "reading a control message: it exceeds our buffer");
  core_.changed.notify_all();
  return frame;
}

void ControlLink::recycle(std::size_t buffer) {
  const Receive again = receive(buffer);
  const Posted posted = queue_->post_receives({&again, 1});
  if (posted.error) core_.fail_with({posted.error, "posting a receive for control messages", {}});
  ++owed_;
  pump();
}

void ControlLink::consumed(std::uint64_t bytes) {
  data_consumed_ += bytes;
  if (owes_much()) pump();
}

void ControlLink::disconnect() noexcept {
  if (queue_) queue_->disconnect();
}

}  // namespace ramferry::rdma
