// SPDX-License-Identifier: MIT
// Slots: the numbered stretches of memory that a peer may place into, and the landings behind them.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <string_view>

namespace ramferry {

/// Names a slot on both ends; the exposing end chooses it.
enum class SlotId : std::uint32_t {};

/// How the bytes of a placement are to be understood; 0 = as they are. Other values belong to the landing.
using Encoding = std::uint8_t;
inline constexpr Encoding kRawEncoding = 0;

/// Where placed bytes end up. Several threads call it at once, for ranges that do not overlap; ranges are
/// checked against size() before. Its owner keeps it alive until the channel is destroyed or the slot
/// revoked.
class Landing {
 public:
  virtual ~Landing() = default;
  virtual std::uint64_t size() const noexcept = 0;

  /// The memory to write [offset, offset + length) straight into: the zero-copy path. Empty if there is none,
  /// and then store() is called instead.
  virtual Bytes window(std::uint64_t offset, std::uint64_t length) noexcept = 0;
  /// [offset, offset + length) may have been written through a window from now on. Called before the bytes
  /// can arrive: by a socket transport per placement, by RDMA when it grants the range.
  virtual void note_written(std::uint64_t offset, std::uint64_t length) noexcept = 0;
  /// `bytes` are the content of [offset, offset + length) under `encoding`: an encoded placement whole, a raw
  /// one in pieces of any size. errc::unsupported unless overridden. A failure here or in zero() fails the
  /// channel: this end's calls return it, the peer's errc::peer_failed.
  virtual Result<> store(std::uint64_t offset, std::uint64_t length, Encoding encoding, ConstBytes bytes);
  /// The range reads as zeros afterwards. Never punches holes.
  virtual Result<> zero(std::uint64_t offset, std::uint64_t length) = 0;
};

/// Mapped memory. Remembers which pages may have been written, so that zeroing a page that is known never
/// touched does not touch it.
class MemoryLanding final : public Landing {
 public:
  enum class Content : std::uint8_t {
    unknown,  ///< zeroing must look
    blank,    ///< every byte is zero and no page was touched, as after mmap
  };
  /// Borrows `memory`, which must stay mapped as long as the landing lives.
  MemoryLanding(Bytes memory, Content content);

  std::uint64_t size() const noexcept override { return memory_.size(); }
  Bytes window(std::uint64_t offset, std::uint64_t length) noexcept override;
  void note_written(std::uint64_t offset, std::uint64_t length) noexcept override;
  Result<> zero(std::uint64_t offset, std::uint64_t length) override;

 private:
  bool written(std::uint64_t granule) const noexcept;

  Bytes memory_;
  std::vector<std::atomic<std::uint64_t>> written_;  ///< a bit per 4 KiB; empty when content is unknown
};

/// The slots of one channel: the one table that every offset, length and number from the wire is checked
/// against. Any thread.
class SlotTable {
 public:
  /// errc::in_use if the number is taken.
  Result<> add(SlotId slot, Landing& landing);
  /// The landing, if the slot exists and [offset, offset + length) lies inside; errc::protocol_mismatch else.
  Result<Landing*> find(SlotId slot, std::uint64_t offset, std::uint64_t length) const;
  /// Forgets all slots; later adds and finds fail.
  void revoke() noexcept;

 private:
  mutable std::shared_mutex mutex_;
  std::map<SlotId, Landing*> slots_;
  bool revoked_ = false;
};

}  // namespace ramferry
