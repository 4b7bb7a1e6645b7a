// SPDX-License-Identifier: MIT
// Plain byte streams beside a channel, to the same peer and in its session: for bytes that are only passed
// on, and gain nothing from being put into somebody's memory first.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/error.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace ramferry {

/// What a channel over sockets is as well. All calls from any thread. The streams outlive neither side's
/// wish: each is ended by its users, and one that the channel's end leaves behind is theirs to cancel.
class SideStreams {
 public:
  virtual ~SideStreams() = default;

  /// The connecting end: whether the peer takes them.
  virtual bool offers_sides() const noexcept = 0;
  /// The connecting end: one more connection to the peer, known to both by `number`. Does not wait for it to
  /// be taken.
  virtual Result<std::unique_ptr<ByteStream>> open_side(std::uint32_t number, Deadline deadline) = 0;

  /// The listening end, before it serves its next connection: side streams are welcome from here on, `most`
  /// at once that were not expected yet. They arrive while its listener accepts.
  virtual void admit_sides(std::size_t most) = 0;
  /// The peer has said that it opens `number`. False, and not expected, unless that is greater than all
  /// before and this end takes side streams. Each is to be taken or abandoned: what comes after that, or was
  /// left out, is turned away.
  virtual bool expect_side(std::uint32_t number) = 0;
  /// Waits for the one that is expected as `number`; errc::cancelled once it was abandoned or the channel has
  /// ended.
  virtual Result<std::unique_ptr<ByteStream>> take_side(std::uint32_t number, Deadline deadline) = 0;
  /// Ends take_side() for `number`, if it was not taken yet.
  virtual void abandon_side(std::uint32_t number) noexcept = 0;
};

/// What a byte stream that is a bare socket is as well: the kernel can move its bytes, without a copy.
class SocketBacked {
 public:
  virtual ~SocketBacked() = default;
  /// The stream's; it blocks half a second at a time. -1 while bytes that were read from it before are still
  /// to be received.
  virtual int socket() const noexcept = 0;
  /// errc::peer_gone when its host has vanished, errc::cancelled.
  virtual Result<> check_reachable() const = 0;
};

}  // namespace ramferry
