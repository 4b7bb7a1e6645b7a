// SPDX-License-Identifier: MIT
// The Channel over one or several connections.
//
// Threads: per lane one that receives; with several lanes one that sends; and one that beats, which sends
// what the others could not send at once and notices a silent peer. With one lane, place() and send() write
// in the caller's thread. Receiving threads never block on sending, and message bytes are limited by a window
// that the receiver grants, so a lane is always read: acknowledgements and heartbeats are never stuck behind
// bytes that nobody receives.
#pragma once

#include "frame_packer.hpp"
#include "inbox.hpp"
#include "lane.hpp"
#include "side_door.hpp"

#include <ramferry/channel.hpp>
#include <ramferry/log.hpp>
#include <ramferry/side_streams.hpp>
#include <ramferry/unique_fd.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace ramferry::tcp {

/// What both ends agreed on. The sockets are in blocking mode, their preambles exchanged.
struct ChannelSetup {
  std::vector<UniqueFd> sockets;  ///< by lane
  SessionId session;
  std::chrono::milliseconds own_timeout{};   ///< of silence, before we give the peer up
  std::chrono::milliseconds peer_timeout{};  ///< before it gives us up
  std::uint32_t peer_window = 0;             ///< message bytes that it buffers
  std::uint64_t preamble_bytes_sent = 0, preamble_bytes_received = 0;
  /// The connecting end's way to one more connection; empty if the peer takes none.
  std::function<Result<UniqueFd>(std::uint32_t number, Deadline deadline)> open_side;
  std::shared_ptr<SideDoor> door;  ///< the listening end's
};

class SocketChannel final : public Channel, public SideStreams, private LaneOwner {
 public:
  /// Message bytes that we buffer for receive(), and grant to the peer in our preamble.
  static constexpr std::uint32_t kWindow = 4u << 20;
  /// A range of this size, aligned, has one lane.
  static constexpr std::uint64_t kStripeBytes = std::uint64_t{2} << 20;

  SocketChannel(ChannelSetup setup, Log& log);
  SocketChannel(const SocketChannel&) = delete;
  SocketChannel& operator=(const SocketChannel&) = delete;
  /// What was sent still arrives, unless the peer is gone: waits for its system to have it, within the peer
  /// timeout.
  ~SocketChannel() override;

  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  Result<> finish(Deadline deadline) override;
  void cancel() noexcept override;
  StreamStats stats() const noexcept override { return counters_.snapshot(); }
  Facts facts() const override;

  Result<> expose(SlotId slot, Landing& landing) override;
  Result<> revoke(Deadline deadline) override;
  Result<> lend(std::span<const Placement> /*plan*/) override { return usable(); }
  Result<> prepare(ConstBytes /*range*/) override { return usable(); }
  Result<> place(std::span<const Placement> batch) override;
  Result<> zero(std::span<const ZeroRun> runs) override;
  Result<Epoch> fence() override;
  Result<> settle(Epoch epoch, Deadline deadline) override;
  Epoch settled() const noexcept override { return settled_.load(); }
  SessionId session() const noexcept override { return setup_.session; }
  /// With one lane: one frame after another, but one system call and one wake-up at the other end.
  Result<Epoch> place_and_tell(const Placement& placement, ConstBytes message) override;

  bool offers_sides() const noexcept override { return setup_.open_side != nullptr; }
  Result<std::unique_ptr<ByteStream>> open_side(std::uint32_t number, Deadline deadline) override;
  void admit_sides(std::size_t most) override;
  bool expect_side(std::uint32_t number) override;
  Result<std::unique_ptr<ByteStream>> take_side(std::uint32_t number, Deadline deadline) override;
  void abandon_side(std::uint32_t number) noexcept override;

 private:
  using Clock = std::chrono::steady_clock;

  // Told by the lanes.
  Result<> begin_landing() override;
  void end_landing() noexcept override;
  Result<std::array<Bytes, 2>> room_for(std::size_t lane, std::size_t bytes) override;
  void bytes_arrived(std::size_t bytes) override;
  Result<> fence_arrived(std::size_t lane, Epoch epoch) override;
  Result<> status_arrived(Epoch in_place, std::uint64_t consumed) override;
  Result<> finish_arrived(std::size_t lane) override;

  // Sending.
  std::size_t lane_of(SlotId slot, std::uint64_t offset) const noexcept;
  Result<> post(std::size_t lane, OutFrame& frame);
  Result<> post_packed(std::size_t lane);
  Result<> pack(Placement placement);
  Result<> post_zeros(std::size_t lane, std::vector<ZeroRun>& runs);
  Result<std::size_t> claim_window(std::size_t bytes);
  Result<> check_unfinished() const;
  /// The failure, if there was one.
  Result<> usable() const;

  // Failing. The first failure is the channel's.
  enum class Ending : std::uint8_t {
    by_peer,  ///< what it sent before is still taken in
    breach,   ///< the peer broke the protocol or we cannot take what it sent: it is told why
    at_once,  ///< nothing more in either direction
    cancelled,
  };
  void end(Error error, Ending ending);
  void tell_peer(const Error& error);
  Failure explain(Error error);
  void shut(int how) noexcept;
  /// Nothing more can arrive. mutex_ is held.
  bool over() const noexcept { return failure_ && (!draining_ || readers_ == 0); }
  void say_goodbye();
  bool all_arrived() const;

  // The threads.
  void receive_on(Lane& lane);
  void send_on(Lane& lane);
  void beat();
  void beat_once();
  void send_status();
  std::chrono::milliseconds beat_interval() const noexcept;

  ChannelSetup setup_;
  Log& log_;
  const std::string peer_;  ///< its address
  Counters counters_;
  Progress progress_;
  SlotTable slots_;
  std::vector<std::unique_ptr<Lane>> lanes_;

  // The sending thread's own.
  std::vector<FramePacker> packers_;  ///< by lane
  OutFrame frame_;
  std::vector<std::byte> tail_;  ///< of place_and_tell

  std::atomic<Epoch> fenced_ = 0;   ///< the newest fence that was sent
  std::atomic<Epoch> settled_ = 0;  ///< and that was acknowledged

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::condition_variable readable_;  ///< for receive() alone, so that acknowledgements do not wake it
  Inbox inbox_{kWindow};
  Epoch passed_ = 0;                   ///< the newest fence that all lanes have passed
  std::uint64_t status_consumed_ = 0;  ///< as of the status that was sent last
  std::uint64_t claimed_ = 0;          ///< message bytes sent, in all
  std::uint64_t peer_consumed_ = 0;    ///< and received over there
  bool finished_ = false, peer_finished_ = false;
  std::size_t readers_ = 0;  ///< receiving threads that run
  std::optional<Error> failure_;
  bool draining_ = false;  ///< failure_ is the peer's end: what it sent before is still taken in
  bool cancelled_ = false;
  Clock::time_point shut_at_ = Clock::time_point::max();  ///< when to stop waiting for readers to end

  std::mutex landing_mutex_;
  std::condition_variable landed_;
  std::size_t landing_ = 0;  ///< lanes that write to landings right now
  bool windows_closed_ = false;

  std::mutex beat_mutex_;
  std::condition_variable beat_wanted_;
  bool status_stuck_ = false;  ///< a status frame found the socket full
  bool stop_beating_ = false;
  std::thread beating_;
};

}  // namespace ramferry::tcp
