// SPDX-License-Identifier: MIT
// The messages of the control connection, and the one that data lanes carry. docs/protocol-rdma.md describes
// them.
//
// Decoding checks the format and copies; nothing here knows which slots or epochs make sense. Lists are
// bounded by the size of a frame.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/channel.hpp>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace ramferry::rdma {

inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kMostBody = 16 << 10;
inline constexpr std::size_t kFrameBytes = kHeaderBytes + kMostBody;

/// Precedes every body.
struct Header {
  std::uint16_t credits = 0;   ///< receives posted anew at the sender of this since its last message
  std::uint64_t consumed = 0;  ///< body bytes of data messages that it has dealt with, in all
};

/// The source has connected all lanes; and the destination has seen them all.
struct Start {
  std::uint16_t lanes = 0;
};
struct Welcome {};

// Data messages: their body bytes count against the receiver's buffer until it has dealt with them.
struct BytesMessage {
  ConstBytes bytes;  ///< in the frame
};
struct ZeroMessage {
  std::vector<ZeroRun> runs;
};
/// A placement by message: encoded, or into a landing that is not memory.
struct StoreMessage {
  SlotId slot{};
  std::uint64_t offset = 0, length = 0;
  Encoding encoding = kRawEncoding;
  bool more = false;  ///< the encoded bytes go on in the next message
  ConstBytes bytes;   ///< in the frame
};

struct Finish {};

/// The sender will write [offset, offset + length) of slot; `reach` more bytes may be granted along with it.
struct Want {
  SlotId slot{};
  std::uint64_t offset = 0, length = 0, reach = 0;
};
struct WantMessage {
  bool urgent = false;  ///< the sender is waiting for it
  std::vector<Want> wants;
};
/// `length` bytes from `offset` of the slot are writable at `base` under `key`.
struct Grant {
  SlotId slot{};
  std::uint64_t offset = 0, length = 0, base = 0;
  std::uint32_t key = 0;
  std::uint64_t slot_size = 0;  ///< of the whole slot: no placement may begin that would not fit
};
struct GrantMessage {
  std::vector<Grant> grants;
};
/// The slot is not memory: use StoreMessage.
struct ByMessage {
  SlotId slot{};
  std::uint64_t slot_size = 0;
};
/// Please give back this much of what was granted.
struct Reclaim {
  std::uint64_t bytes = 0;
};
/// Whole grants that the sender will not write into any more.
struct Release {
  SlotId slot{};
  std::uint64_t offset = 0, length = 0;
};
struct ReleaseMessage {
  std::vector<Release> releases;
};

struct FenceMessage {
  Epoch epoch = 0;
  std::uint64_t lanes = 0;  ///< bit i: a LaneFence of this epoch comes on lane i
  std::uint64_t writes = 0, bytes = 0;
};
struct Settled {
  Epoch epoch = 0;
};
/// The sender's windows are closed.
struct Revoked {
  bool lanes_closed = false;  ///< and with them the lanes, both ways
};
struct Heartbeat {};
/// The sender has failed, and why.
struct Farewell {
  std::string text;
};

using Message =
    std::variant<Start, Welcome, BytesMessage, ZeroMessage, StoreMessage, Finish, WantMessage, GrantMessage,
                 ByMessage, Reclaim, ReleaseMessage, FenceMessage, Settled, Revoked, Heartbeat, Farewell>;

struct Frame {
  Header header;
  Message message;
  std::uint64_t data_bytes = 0;  ///< of a data message: what counts against the buffer
};

/// How many entries fit one message.
inline constexpr std::size_t kMostZeroRuns = kMostBody / 20;
inline constexpr std::size_t kMostWants = (kMostBody - 1) / 28;
inline constexpr std::size_t kMostGrants = kMostBody / 40;
inline constexpr std::size_t kMostReleases = kMostBody / 20;
inline constexpr std::size_t kStoreHead = 22;

/// Pieces of memory that either end remembers at a time: what the destination was asked for, what the source
/// was granted.
inline constexpr std::size_t kMostPieces = 1 << 18;

/// With an empty header, which stamp() fills in when the frame leaves.
std::vector<std::byte> encode(const Message& message);
void stamp(Bytes frame, const Header& header) noexcept;
/// What of an encoded message counts against the receiver's buffer.
std::uint64_t data_bytes(ConstBytes frame) noexcept;
Result<Frame> decode(ConstBytes frame);

/// Follows the writes of an epoch on its lane, whose order proves that they are in place.
struct LaneFence {
  Epoch epoch = 0;
  std::uint64_t writes = 0, bytes = 0;
};
inline constexpr std::size_t kLaneFenceBytes = 32;
void encode(const LaneFence& fence, Bytes into) noexcept;
Result<LaneFence> decode_lane_fence(ConstBytes bytes);

}  // namespace ramferry::rdma
