// SPDX-License-Identifier: MIT
// A channel of one control connection and N lanes, and the thread that hears what happens on them.
#pragma once

#include "control_link.hpp"
#include "core.hpp"
#include "hello.hpp"
#include "inbound.hpp"
#include "outbound.hpp"

#include <ramferry/channel.hpp>
#include <ramferry/traits.hpp>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace ramferry::rdma {

class RdmaChannel final : public Channel, public PlacesDirectly {
 public:
  struct Parts {
    Log& log;
    Options options;
    std::unique_ptr<Domain> domain;
    SessionId session;
    std::uint32_t lanes = 0;
    bool dials = false;  ///< it is the source's end, which says START and hears WELCOME
  };

  // Making one: make, connections with the receives given here, start, then await_peer.

  static Result<std::unique_ptr<RdmaChannel>> make(Parts parts);
  ~RdmaChannel() override;

  Domain& domain() noexcept { return *core_.domain; }
  std::uint32_t lanes() const noexcept { return lanes_; }
  static std::uint32_t completions_for(std::uint32_t lanes) noexcept;
  std::vector<Receive> control_receives() const { return control_->receives(); }
  static QueueShape control_shape() noexcept { return ControlLink::shape(); }
  std::vector<Receive> lane_receives(std::uint32_t lane) const { return inbound_->receives(lane); }
  static QueueShape lane_shape(std::uint32_t lanes) noexcept;

  void attach_control(std::unique_ptr<QueuePair> queue, std::uint16_t peer_receives,
                      std::chrono::milliseconds peer_timeout);
  void attach_lane(std::uint32_t lane, std::unique_ptr<QueuePair> queue);
  /// Starts the event thread. `on_ready` is called once, by it, when the peer has said that it is.
  Result<> start(std::function<void()> on_ready);
  /// Source: says that all lanes are connected, and waits for the destination's word.
  Result<> await_peer(Deadline deadline);
  bool is_ready() const;
  bool has_failed() const;
  bool has_lane(std::uint32_t lane) const;

  // Channel.

  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  Result<> finish(Deadline deadline) override;
  void cancel() noexcept override;
  StreamStats stats() const noexcept override { return core_.counters.snapshot(); }
  Facts facts() const override;
  Result<> expose(SlotId slot, Landing& landing) override { return inbound_->expose(slot, landing); }
  Result<> revoke(Deadline deadline) override;
  Result<> lend(std::span<const Placement> plan) override { return outbound_->lend(plan); }
  Result<> prepare(ConstBytes range) override { return outbound_->prepare(range); }
  std::uint64_t prepares_at_most() const noexcept override { return outbound_->prepares_at_most(); }
  Result<> place(std::span<const Placement> batch) override { return outbound_->place(batch); }
  Result<> zero(std::span<const ZeroRun> runs) override { return outbound_->zero(runs); }
  Result<Epoch> fence() override { return outbound_->fence(); }
  Result<> settle(Epoch epoch, Deadline deadline) override { return outbound_->settle(epoch, deadline); }
  Epoch settled() const noexcept override { return outbound_->settled(); }
  SessionId session() const noexcept override { return session_; }

 private:
  explicit RdmaChannel(Parts parts);
  Result<> prepare_parts();
  void start_workers();
  void work();
  void apply();

  // The event thread.
  void run();
  void handle(Lock& lock, const Completion& completion);
  Result<> on_control_received(Lock& lock, std::size_t buffer, std::uint32_t bytes);
  Result<> dispatch(Lock& lock, Frame& frame);
  Result<> on_start(const Start& start);
  Result<> on_welcome();
  void welcome_if_complete();
  void on_lane_received(std::uint32_t lane, std::size_t buffer, const Completion& completion);
  void on_lane_error(std::error_code error, std::string doing);
  void on_event(const LinkEvent& event);
  void on_lost(Error error);
  void say_why();
  Deadline tick();
  void set_ready();
  void close_lanes() noexcept;
  Result<> await_closed(Lock& lock, Deadline deadline, const std::function<bool()>& closed);
  void linger(Lock& lock);

  Core core_;
  const SessionId session_;
  const std::uint32_t lanes_;
  const bool dials_;
  std::unique_ptr<ControlLink> control_;
  std::unique_ptr<Outbound> outbound_;
  std::unique_ptr<Inbound> inbound_;
  std::chrono::milliseconds peer_timeout_{0};
  std::vector<std::ptrdiff_t> lane_receives_;  // posted, by lane
  std::function<void()> on_ready_;
  bool started_ = false, ready_ = false, finished_ = false, lanes_closed_ = false, said_why_ = false,
       stop_ = false;
  bool revoked_ = false;
  std::optional<Error> lane_error_;
  std::chrono::steady_clock::time_point lane_error_due_;
  std::chrono::steady_clock::time_point due_ = std::chrono::steady_clock::now();  // of the next tick
  std::thread events_;
  std::vector<std::thread> workers_;
};

}  // namespace ramferry::rdma
