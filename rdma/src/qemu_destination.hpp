// SPDX-License-Identifier: MIT
// The end of QEMU's RDMA protocol that takes a VM in: bytes of its stream, and writes into our landings.
//
// Nothing the source says is believed: blocks, ranges and counts are checked against our own list, and it
// gets keys to nothing but whole chunks of our landings. It never learns an address of ours: what it writes
// to is numbered by us.
#pragma once

#include "qemu_link.hpp"

#include <ramferry/hooked_stream.hpp>

#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace ramferry::rdma::qemu {

class QemuDestination final : public HookedStream {
 public:
  /// `pin_all`: what the source was granted.
  QemuDestination(std::unique_ptr<QemuLink> link, bool pin_all) : link_(std::move(link)), pin_all_(pin_all) {}
  ~QemuDestination() override;

  /// errc::unsupported: the source's return path is a connection of its own, which we do not take.
  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override { link_->cancel(); }
  StreamStats stats() const noexcept override { return link_->counters().snapshot(); }
  Facts facts() const override;

  Result<> land(std::vector<Landing*> blocks) override;
  Result<> take_round() override;
  void close_windows() noexcept override;

  Result<> agree(std::span<const std::uint64_t> block_bytes, std::vector<Range> plan) override;
  Result<Bytes> stage(const Range& wanted) override;
  Result<> zero(const Range& range) override;
  Result<> end_round() override;

 private:
  struct Window {
    std::uint64_t last = 0;  ///< chunk
    std::unique_ptr<PinnedRegion> region;
  };
  struct Target {
    Landing* landing = nullptr;
    std::uint64_t offset = 0, length = 0;
    std::multimap<std::uint64_t, Window> windows;  ///< by first chunk
    std::uint64_t chunks() const noexcept { return (length + kChunkBytes - 1) / kChunkBytes; }
  };

  /// A single chunk.
  struct Place {
    std::uint32_t block = 0;
    std::uint64_t chunk = 0;
    bool operator==(const Place&) const = default;
  };

  Result<> ask_once();
  Result<> serve_round();
  Result<> show_blocks();
  Result<> open_windows(const Message& message);
  void get_ready();
  Result<> shut_windows(const Message& message);
  Result<> fill(const Zero& wanted);
  Result<RegisterResult> open_window(const RegisterRequest& request);
  Result<std::uint32_t> window(Target& target, std::uint64_t first, std::uint64_t last);
  Result<std::unique_ptr<PinnedRegion>> pin(Target& target, std::uint64_t first, std::uint64_t last);
  Result<Target*> target(std::uint32_t block, std::uint64_t where, std::uint64_t length);
  Result<> check_memory() const;

  std::unique_ptr<QemuLink> link_;
  bool pin_all_, asked_ = false, shown_ = false, closed_ = false, failed_ = false;
  ConstBytes pending_;  ///< of the message that was received last
  std::vector<Target> targets_;
  std::uint64_t windows_ = 0, most_windows_ = 0;

  Place asked_for_;            ///< the last one
  unsigned in_order_ = 0;      ///< requests in a row that went on where the one before ended
  std::optional<Place> next_;  ///< registered before it was asked for
  std::unique_ptr<PinnedRegion> next_region_;
};

}  // namespace ramferry::rdma::qemu
