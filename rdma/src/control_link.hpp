// SPDX-License-Identifier: MIT
// The control connection: messages in order, never more than the peer has receives for.
//
// Credits are receives that the peer has posted. A few are kept back for giving credits, so that two ends
// that are both out of the rest can still free each other. All calls with the channel's lock held, except
// make().
#pragma once

#include "core.hpp"
#include "message.hpp"

#include <chrono>
#include <deque>
#include <memory>
#include <vector>

namespace ramferry::rdma {

inline constexpr std::uint16_t kControlReceives = 64;
inline constexpr std::uint32_t kControlSends = 32;

class ControlLink {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// Completions carry `send_id` + buffer or `receive_id` + buffer.
  static Result<std::unique_ptr<ControlLink>> make(Core& core, std::uint64_t send_id,
                                                   std::uint64_t receive_id);

  static QueueShape shape() noexcept { return {kControlSends, kControlReceives}; }
  /// To be posted before the connection is made.
  std::vector<Receive> receives() const;
  void attach(std::unique_ptr<QueuePair> queue, std::uint16_t peer_receives);

  /// Sends as soon as there is room; a failure of the link shows in the core. So does a peer that gives no
  /// room while it asks for ever more.
  void post(const Message& message);
  /// Few enough messages wait that a data message may be added.
  bool has_room() const noexcept;
  /// Data messages that the peer's buffer takes now.
  bool fits(std::uint64_t data_bytes) const noexcept;
  /// All posted messages are in the peer's memory, or can no longer get there.
  bool drained() const noexcept {
    return is_broken_ || (outbox_.empty() && free_sends_.size() == kControlSends);
  }
  /// The connection has failed: nothing more is sent or acknowledged.
  void on_broken() noexcept;

  /// Sends what waits, as far as there is room.
  void pump();
  /// The device had no room though it should: pump() again soon.
  bool is_stuck() const noexcept { return stuck_; }
  void on_sent(std::size_t buffer);
  /// The frame stays until recycle().
  Result<Frame> on_received(std::size_t buffer, std::uint32_t bytes);
  void recycle(std::size_t buffer);
  /// `bytes` of the peer's data messages were dealt with.
  void consumed(std::uint64_t bytes);
  /// Data bytes that the peer has sent and we have not dealt with.
  std::uint64_t unconsumed() const noexcept { return data_received_ - data_consumed_; }

  Time last_sent() const noexcept { return last_sent_; }
  Time last_heard() const noexcept { return last_heard_; }
  void heard_now() noexcept { last_heard_ = std::chrono::steady_clock::now(); }
  void disconnect() noexcept;

 private:
  explicit ControlLink(Core& core) noexcept : core_(core) {}
  void send_waiting();
  bool send_frame(std::vector<std::byte>& frame);
  bool owes_much() const noexcept;
  Bytes send_buffer(std::size_t index) const noexcept;
  Bytes receive_buffer(std::size_t index) const noexcept;
  Receive receive(std::size_t index) const noexcept;

  Core& core_;
  std::uint64_t send_id_ = 0, receive_id_ = 0;
  std::vector<std::byte> buffers_;
  std::unique_ptr<PinnedRegion> region_;
  std::unique_ptr<QueuePair> queue_;
  std::vector<std::size_t> free_sends_;
  std::deque<std::vector<std::byte>> outbox_;
  std::uint64_t outbox_bytes_ = 0;  // about what it takes
  std::uint32_t credits_ = 0, owed_ = 0;
  std::uint64_t data_sent_ = 0, peer_consumed_ = 0;      // this way
  std::uint64_t data_received_ = 0, data_consumed_ = 0;  // that way
  std::uint64_t consumed_told_ = 0;
  bool stuck_ = false, is_broken_ = false;
  Time last_sent_{}, last_heard_{};
};

/// Data bytes that an end buffers for the other.
inline constexpr std::uint64_t kDataBuffer = 2 << 20;

}  // namespace ramferry::rdma
