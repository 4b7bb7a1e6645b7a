// SPDX-License-Identifier: MIT
// The half of a channel that places: lent memory, lanes, the peer's grants, fences and their
// acknowledgements.
//
// The sending thread calls the first group, without the lock. The event thread and the workers call the
// others, with the lock held.
#pragma once

#include "control_link.hpp"
#include "core.hpp"
#include "lane.hpp"
#include "local_memory.hpp"
#include "remote_memory.hpp"
#include "staging.hpp"

#include <ramferry/channel.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <span>
#include <vector>

namespace ramferry::rdma {

class Outbound {
 public:
  /// Lane i's completions carry first_id + i * id_stride + a running number. `start_workers` is called, with
  /// the lock held, before there is work for them.
  Outbound(Core& core, ControlLink& control, std::function<void()> start_workers) noexcept;
  /// Registers what fences are sent from.
  Result<> prepare_lanes(std::uint32_t lanes, std::uint32_t depth,
                         const std::function<std::uint64_t(std::uint32_t)>& first_id);
  void attach(std::uint32_t lane, std::unique_ptr<QueuePair> queue) { lanes_[lane].attach(std::move(queue)); }
  QueuePair* queue(std::uint32_t lane) const noexcept { return lanes_[lane].queue(); }

  Result<> lend(std::span<const Placement> plan);
  Result<> prepare(ConstBytes range);
  /// pin=demand: a piece of the budget, so that those that are ahead and behind have room too. pin=all: what
  /// is registered is placed while the next piece is being registered.
  std::uint64_t prepares_at_most() const noexcept { return core_.plan.chunk; }
  Result<> place(std::span<const Placement> batch);
  Result<> zero(std::span<const ZeroRun> runs);
  Result<Epoch> fence();
  Result<> settle(Epoch epoch, Deadline deadline);
  Epoch settled() const noexcept { return settled_.load(std::memory_order_acquire); }

  Result<> on_completed(std::uint32_t lane, std::uint64_t id);
  Result<> on_message(const GrantMessage& message);
  Result<> on_message(const Settled& message);
  Result<> on_message(const ByMessage& message);
  void on_message(const Reclaim& message);
  /// The peer has closed its windows: whoever is placing loses the channel.
  Result<> on_message(const Revoked& message);
  /// Our own windows were closed by closing the lanes.
  void on_lanes_closed();
  /// Memory was lent or placed from here.
  bool was_used() const noexcept { return used_; }
  /// The longest that something was outstanding without an acknowledgement coming in: a link that loses
  /// packets shows here. A wait that still goes on counts.
  std::chrono::steady_clock::duration longest_silence() const noexcept;

  /// Registers one chunk; false if there is none to.
  bool work(Lock& lock);
  std::vector<std::unique_ptr<PinnedRegion>> take_regions() { return local_.take_all(); }

 private:
  Result<> check_open();
  Result<> place_raw(Lock& lock, const Placement& placement);
  /// Places some of it, or waits for what is missing for that; returns how much was placed.
  Result<std::size_t> place_some(Lock& lock, const Placement& rest);
  Result<> store(Lock& lock, const Placement& placement);
  Result<> post_data(Lock& lock, const Message& message, std::uint64_t bytes);
  Result<> await_window(Lock& lock, const Placement& rest);
  Result<> await_chunk(Lock& lock, LocalChunk& chunk);
  Result<> make_room(Lock& lock, std::uint64_t bytes);
  Result<> await_staging(Lock& lock);
  ConstBytes copy_to_staging(std::uint32_t lane, ConstBytes bytes);
  Result<> flush(Lock& lock, std::uint32_t lane);
  Result<> flush_all(Lock& lock);
  Result<> post(Lock& lock, Lane& lane);
  void give_back();
  void note_outstanding() noexcept;
  void send_wants(const std::vector<Want>& wants, bool urgent);
  std::uint32_t lane_of(const Placement& rest) const noexcept;
  bool goes_by_message(const Placement& rest) noexcept;

  struct StagingUse {
    std::size_t piece = 0, used = StagingRing::kPieceBytes;  // full: take another
  };

  Core& core_;
  ControlLink& control_;
  const std::function<void()> start_workers_;
  std::vector<Lane> lanes_;
  std::vector<StagingUse> staging_uses_;  // of the staged list of each lane
  std::vector<std::byte> fence_memory_;
  std::unique_ptr<PinnedRegion> fence_region_;
  LocalMemory local_;
  RemoteMemory remote_;
  StagingRing ring_;
  Epoch fenced_ = 0;
  bool used_ = false;
  bool unfenced_ = false;        // something was placed or zeroed since the last fence
  std::optional<Error> closed_;  // why nothing can be placed any more
  /// While anything is outstanding: when the last acknowledgement came in, or the first of it was placed.
  std::optional<std::chrono::steady_clock::time_point> silent_since_;
  std::chrono::steady_clock::duration longest_silence_{};
  std::atomic<Epoch> settled_{0};
};

}  // namespace ramferry::rdma
