// SPDX-License-Identifier: MIT
// The half of a channel that is placed into: slots, the peer's wishes for memory, what comes by message,
// fences.
//
// A worker registers memory, another applies zero runs and stored placements, so that a slow landing holds up
// neither heartbeats nor acknowledgements of others. Methods run with the lock held unless they say
// otherwise.
#pragma once

#include "byte_queue.hpp"
#include "control_link.hpp"
#include "core.hpp"
#include "exposure.hpp"
#include "fence_ledger.hpp"
#include "lane.hpp"

#include <deque>
#include <functional>
#include <optional>
#include <variant>
#include <vector>

namespace ramferry::rdma {

class Inbound {
 public:
  Inbound(Core& core, ControlLink& control, std::uint32_t lanes,
          std::function<void()> start_workers) noexcept;

  /// What fences are received into: one region for all lanes. Completions carry id + the lane's number and
  /// the buffer.
  Result<> prepare_lanes(const std::function<std::uint64_t(std::uint32_t)>& first_id);
  /// More than fences may be open: one may be acknowledged before its receive is posted anew.
  static constexpr std::uint32_t kReceives = kMostUnsettled + 2;
  std::vector<Receive> receives(std::uint32_t lane) const;

  /// Takes the lock.
  Result<> expose(SlotId slot, Landing& landing);
  /// Forgets the slots: once nothing is_landing(), nothing that comes by message lands any more.
  void close() noexcept { exposure_.close(); }
  bool is_landing() const noexcept { return applying_ || exposure_.is_busy(); }

  Result<> on_message(const WantMessage& message);
  /// Gives up the lock while memory is deregistered.
  Result<> on_message(Lock& lock, const ReleaseMessage& message);
  Result<> on_message(const BytesMessage& message);
  Result<> on_message(ZeroMessage message, std::uint64_t data_bytes);
  Result<> on_message(const StoreMessage& message, std::uint64_t data_bytes);
  Result<> on_message(const FenceMessage& message);
  void on_finish();
  /// A fence came in on `lane`; `buffer` is to be posted anew.
  Result<> on_lane(std::uint32_t lane, std::size_t buffer, std::uint32_t bytes);
  Receive receive(std::uint32_t lane, std::size_t buffer) const;

  ByteQueue& bytes() noexcept { return bytes_; }

  /// Registers one piece; false if there is none to.
  bool work(Lock& lock);
  /// Applies one item; false if there is none.
  bool apply(Lock& lock);
  std::vector<std::unique_ptr<PinnedRegion>> take_regions() { return exposure_.take_all(); }

 private:
  struct Stored {
    StoreMessage head;  // without its bytes
    std::vector<std::byte> bytes;
  };
  struct Mark {
    Epoch epoch;
  };
  struct Item {
    std::variant<ZeroMessage, Stored, Mark> what;
    std::uint64_t data_bytes = 0;
  };
  void enqueue(Item item);
  /// Pieces of a placement that is not complete count as dealt with once nothing else waits to be applied:
  /// the rest of it may not fit before that, and what is kept stays within a placement or two beyond the
  /// buffer.
  void pay_for_partial();
  /// Without the lock.
  Result<> apply_item(const Item& item);
  Result<> advance();
  void ask_back();

  Core& core_;
  ControlLink& control_;
  const std::uint32_t lanes_;
  const std::function<void()> start_workers_;
  std::vector<std::byte> fence_memory_;
  std::unique_ptr<PinnedRegion> fence_region_;
  std::vector<std::uint64_t> first_ids_;
  Exposure exposure_;
  FenceLedger ledger_;
  ByteQueue bytes_;
  std::deque<Item> items_;
  bool applying_ = false;
  std::optional<Stored> partial_;    // an encoded placement whose rest is to come
  std::uint64_t partial_bytes_ = 0;  // of the peer's messages with it, that still count against our buffer
};

}  // namespace ramferry::rdma
