// SPDX-License-Identifier: MIT
// A stream whose bytes are placed from a ring here into its mirror at the other end.
#pragma once

#include "ring.hpp"
#include "stream.hpp"

#include <deque>

namespace ramferry::tunnel {

/// The rings of one stream number. They outlive streams: a number that is used again keeps its slot.
struct Rings {
  explicit Rings(RingMemory incoming, RingMemory outgoing)
      : in(std::move(incoming)),
        out(std::move(outgoing)),
        landing(in.bytes(), MemoryLanding::Content::unknown) {}
  RingMemory in, out;
  MemoryLanding landing;
  bool lent = false;
};

class RingStream final : public Stream {
 public:
  RingStream(std::uint32_t number, Rings& rings, Uplink& uplink, std::unique_ptr<ByteStream> plain,
             Dial dial);
  ~RingStream() override { join(); }

  Result<> on_opened() override;
  Result<> on_data(std::uint32_t bytes) override;
  Result<> on_credit(std::uint32_t bytes) override;

 private:
  Result<> pump_in() override;
  Result<> pump_out() override;
  void wind_up() noexcept override;
  Bytes wait_for_space();
  Bytes wait_for_bytes();
  bool settle_up_to(std::uint64_t position);

  Rings& rings_;
  bool opened_ = false;                      ///< the peer's ring is exposed
  std::uint64_t sent_ = 0, credited_ = 0;    ///< positions in the outgoing ring
  std::uint64_t arrived_ = 0, written_ = 0;  ///< positions in the incoming ring
  struct InFlight {
    std::uint64_t end;
    Epoch epoch;
  };
  std::deque<InFlight> in_flight_;  ///< of the outgoing ring; pump_in's thread only
  std::uint64_t settled_ = 0;       ///< how far the fences have; as in_flight_
};

}  // namespace ramferry::tunnel
