// SPDX-License-Identifier: MIT
// The seam between migration and transports: ordered bytes, and bytes put straight into the peer's memory.
//
// A channel knows nothing of pages, guests or migrations. Its bytes (send, receive) are ordered among
// themselves; its placements are not, until a fence. Keys, grants, chunks and registrations never leave the
// transport.
//
// One sending thread calls send, finish, lend, prepare, place, zero, fence, place_and_tell and settle; one
// receiving thread calls receive and revoke. Both may be the same thread. expose, cancel, stats, facts,
// settled and session from any: a tunnel exposes a ring while another thread waits in receive. The
// transport's own threads take in placements, zero runs, fences and acknowledgements at any time: the caller
// never has to pump. Bytes that nobody receives are buffered up to a bound; then the peer's send blocks, and
// with it what it sent later.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/session_id.hpp>
#include <ramferry/slot.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <variant>

namespace ramferry {

/// The most encoded bytes that one placement may carry; more is errc::invalid_argument.
inline constexpr std::size_t kMostEncodedBytes = 1U << 20;

/// "Put these bytes there." Under kRawEncoding, `length` equals bytes.size(); otherwise it is the decoded
/// length.
struct Placement {
  SlotId slot{};
  std::uint64_t offset = 0;
  ConstBytes bytes;
  std::uint64_t length = bytes.size();
  Encoding encoding = kRawEncoding;
};

struct ZeroRun {
  SlotId slot{};
  std::uint64_t offset = 0, length = 0;
};

/// Fences are numbered 1, 2, 3 … within a channel; 0 is "none yet".
using Epoch = std::uint64_t;

class Channel : public ByteStream {
 public:
  // --- the end that is placed into ---

  /// Lets the peer place into `landing` under the number `slot`. The peer is not told: say so in a message.
  virtual Result<> expose(SlotId slot, Landing& landing) = 0;
  /// Closes all windows. After it returned nothing from the peer can land any more, whatever the peer does;
  /// bytes still flow. Call it before the memory gets another owner. A peer that is placing right now loses
  /// the channel. Works on a failed or cancelled channel too; only after errc::timed_out may something land
  /// yet.
  virtual Result<> revoke(Deadline deadline) = 0;

  // --- the end that places ---

  /// These placements will come, cut and merged as it suits, in about this order: memory of ours and where it
  /// will go, in slots that the peer has told us of. The memory stays mapped, and is not remapped or
  /// discarded, until the channel is destroyed. Transports may begin to register it in the background, and
  /// have the peer do so with what it goes to; neither registers anything else. Ranges never lent may be
  /// placed, at the price of a copy where the transport registers memory.
  virtual Result<> lend(std::span<const Placement> plan) = 0;
  /// After it returned the transport does nothing more to `range` (within one lent range) that looks like a
  /// write to it: from here on a dirty tracker may be armed. Once per range, before its first placement.
  virtual Result<> prepare(ConstBytes range) = 0;
  /// Who prepares more than this at a time, before placing it, may pay for copies: a transport that registers
  /// little at a time gives up the first of it for the last.
  virtual std::uint64_t prepares_at_most() const noexcept { return ~0ULL; }

  /// Borrows the bytes until a later fence has settled. They may be changed meanwhile (the caller knows why
  /// that is harmless), not unmapped. Encoded bytes are borrowed for the call only. Blocks for queue space,
  /// never for delivery. What was placed or zeroed and is not yet settled must not be placed or zeroed again.
  /// Nothing ever lands outside what the peer exposes: this call or a later settle fails, with
  /// errc::invalid_argument where this end can tell, else errc::peer_failed; the latter also when the peer's
  /// landing fails.
  virtual Result<> place(std::span<const Placement> batch) = 0;
  /// The ranges read as zeros at the peer; ordered with placements as those are among themselves.
  virtual Result<> zero(std::span<const ZeroRun> runs) = 0;
  /// Orders, and returns at once: no byte sent after it is received before all placed and zeroed before it is
  /// visible to the peer's CPU; and it is not acknowledged before all bytes sent before it have arrived.
  virtual Result<Epoch> fence() = 0;
  /// The same as place(), fence() and send(), one after another; sockets do it with one system call.
  virtual Result<Epoch> place_and_tell(const Placement& placement, ConstBytes message);
  /// Waits until the peer has acknowledged `epoch`: all before it is in place, and its local bytes are the
  /// caller's. errc::timed_out leaves the channel as it was.
  virtual Result<> settle(Epoch epoch, Deadline deadline) = 0;
  /// The newest acknowledged epoch. What was placed after it is outstanding.
  virtual Epoch settled() const noexcept = 0;

  virtual SessionId session() const noexcept = 0;
};

/// What a connection turned out to be: a peer of ours, or one that speaks QEMU's plain byte stream.
using Link = std::variant<std::unique_ptr<Channel>, std::unique_ptr<ByteStream>>;
/// The bytes of either.
ByteStream& bytes_of(const Link& link) noexcept;

}  // namespace ramferry
