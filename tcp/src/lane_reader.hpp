// SPDX-License-Identifier: MIT
// The receiving half of one connection: takes frames apart and lands placements where they belong, without a
// copy.
//
// Runs on the lane's receiving thread. Everything that came from the peer is checked here or by the slot
// table before it is used; any breach is errc::protocol_mismatch.
#pragma once

#include "counters.hpp"
#include "frame.hpp"

#include <ramferry/channel.hpp>
#include <ramferry/error.hpp>
#include <ramferry/slot.hpp>

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ramferry::tcp {

/// Where a lane's bytes come from: its socket, or a test's buffer.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// At least one byte into `pieces`, in their order; 0 at the end. Blocks.
  virtual Result<std::size_t> read(std::span<iovec> pieces) = 0;
};

/// What a lane's reader asks and tells its channel.
class LaneEvents {
 public:
  virtual ~LaneEvents() = default;
  /// Brackets each stretch of writing to landings; errc::protocol_mismatch once the windows are closed.
  virtual Result<> begin_landing() = 0;
  virtual void end_landing() noexcept = 0;
  /// Room for `bytes` of the ordered bytes: one or two pieces, filled before bytes_arrived(). Refuses more
  /// than the window that was granted.
  virtual Result<std::array<Bytes, 2>> room_for(std::size_t bytes) = 0;
  virtual void bytes_arrived(std::size_t bytes) = 0;
  virtual Result<> fence_arrived(Epoch epoch) = 0;
  virtual Result<> status_arrived(Epoch in_place, std::uint64_t consumed) = 0;
  virtual Result<> finish_arrived() = 0;
};

class LaneReader {
 public:
  enum class End : std::uint8_t { closed, goodbye };

  /// Borrows all.
  LaneReader(ByteSource& source, const SlotTable& slots, LaneEvents& events, Counters& counters) noexcept
      : source_(source), slots_(slots), events_(events), counters_(counters) {}

  /// Until the peer ends the connection between two frames. An error frame is errc::peer_failed.
  Result<End> run();

 private:
  Result<bool> next_header();
  Result<> take(const FrameHeader& header);
  Result<> take_bytes(std::size_t payload);
  Result<> take_placements(const FrameHeader& header);
  Result<> take_zero_runs(const FrameHeader& header);
  Failure peer_error(const FrameHeader& header);

  Result<> read_table(const FrameHeader& header);
  Result<> land(const Extent& extent);
  Result<> store(Landing& landing, const Extent& extent);
  Result<> zero(const ZeroRun& run);
  /// Fills pieces_ and empties it. At the end of a frame the next header comes along, if it is there.
  Result<> fill(bool end_of_frame);

  ByteSource& source_;
  const SlotTable& slots_;
  LaneEvents& events_;
  Counters& counters_;
  std::array<std::byte, kHeaderBytes> header_{};
  std::array<std::byte, kHeaderBytes> next_{};  ///< the header after this one, as far as it was read
  std::size_t next_bytes_ = 0;
  std::vector<std::byte> table_;
  std::vector<Extent> extents_;
  std::vector<ZeroRun> runs_;
  std::vector<iovec> pieces_;
  std::vector<std::byte> staging_;  ///< for landings without a window, and encoded placements
};

}  // namespace ramferry::tcp
