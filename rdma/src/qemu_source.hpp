// SPDX-License-Identifier: MIT
// The end of QEMU's RDMA protocol that sends a VM: bytes of its stream, and writes into the destination's
// RAM.
//
// Pages go through registered staging memory, many writes in flight, one completion for each megabyte of it.
// The destination registers large runs of its RAM, ahead of the writes and one request after another: a stock
// QEMU takes a run of any length as one registration.
#pragma once

#include "qemu_link.hpp"

#include <ramferry/hooked_stream.hpp>

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

namespace ramferry::rdma::qemu {

class QemuSource final : public HookedStream {
 public:
  struct Plan {
    bool pin_all = false;   ///< granted: all keys come with the blocks
    std::uint64_t run = 0;  ///< registered at once, in bytes; whole chunks
  };
  static Result<std::unique_ptr<QemuSource>> make(std::unique_ptr<QemuLink> link, Plan plan);

  Result<> send(ConstBytes bytes) override;
  /// errc::unsupported: the return path is a connection of its own, which we do not open.
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  /// Until the destination hangs up, as one does that has loaded its machine; its silence is no failure.
  Result<> finish(Deadline deadline) override;
  void cancel() noexcept override { link_->cancel(); }
  StreamStats stats() const noexcept override { return link_->counters().snapshot(); }
  Facts facts() const override;

  Result<> agree(std::span<const std::uint64_t> block_bytes, std::vector<Range> plan) override;
  Result<Bytes> stage(const Range& wanted) override;
  Result<> zero(const Range& range) override;
  Result<> end_round() override;

  Result<> land(std::vector<Landing*> blocks) override;
  Result<> take_round() override;
  void close_windows() noexcept override {}

 private:
  static constexpr std::size_t kBuffers = 16, kBufferBytes = 1U << 20;
  struct Run {
    std::uint32_t block = 0;
    std::uint64_t number = 0;  ///< of its block's, in runs
  };
  struct Key {
    bool known = false;
    std::uint32_t key = 0;
    std::uint64_t base = 0;  ///< the block's first byte
  };

  QemuSource(std::unique_ptr<QemuLink> link, Plan plan) noexcept : link_(std::move(link)), plan_(plan) {}
  Result<> check_blocks(std::span<const std::uint64_t> block_bytes);
  void plan_ahead(const std::vector<Range>& ranges);
  Result<> check_range(const Range& range) const;
  Result<Key> key_for(std::uint32_t block, std::uint64_t offset);
  Result<> ask_for(const Run& run);
  Result<> ask_ahead();
  Result<> collect();
  Result<> wait_for(const std::function<bool()>& ready, const std::string& doing);
  Key& key_of(const Run& run) { return keys_[run.block][run.number]; }
  Result<> next_buffer();
  void queue_staged();
  Result<> post(bool last_of_buffer);
  bool all_written() const noexcept;

  std::unique_ptr<QemuLink> link_;
  Plan plan_;
  std::vector<std::byte> memory_;
  std::unique_ptr<PinnedRegion> region_;
  std::vector<Block> blocks_;
  std::vector<std::vector<Key>> keys_;  ///< by block, by run
  std::deque<Run> ahead_;               ///< to be registered, in this order
  std::optional<Run> asked_;            ///< its result is on its way

  std::array<bool, kBuffers> busy_{};  ///< writes from it are on their way
  std::size_t buffer_ = 0, used_ = 0;  ///< the buffer that is being filled, and how far
  std::optional<WorkRequest> staged_;  ///< what stage() returned last
  std::vector<WorkRequest> pending_;
  std::uint32_t unsignaled_ = 0;
};

}  // namespace ramferry::rdma::qemu
