// SPDX-License-Identifier: MIT
// What each end says first on every connection: who it is, which session and lane this is, what it can do.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/session_id.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ramferry::tcp {

/// 0x93 "RMFRY" CR LF: not text, not TLS, not QEMU's "QEVM", not multifd's 0x11223344; broken by text-mode
/// relays.
inline constexpr std::array<std::byte, 8> kMagic = {std::byte{0x93}, std::byte{'R'}, std::byte{'M'},
                                                    std::byte{'F'},  std::byte{'R'}, std::byte{'Y'},
                                                    std::byte{0x0d}, std::byte{0x0a}};
inline constexpr std::size_t kSniffBytes = 4;       ///< enough to tell ours from QEMU's
inline constexpr std::size_t kPreamblePrefix = 12;  ///< magic, version, size
inline constexpr std::size_t kMaxPreambleBytes = 1024;
inline constexpr std::size_t kMaxRefusalBytes = 512;
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint16_t kMaxLanes = 64;
/// In an answer, optional: this end takes side connections of the session.
inline constexpr std::uint32_t kSidesFeature = 1;
/// A peer that requires one we do not know is refused; optional ones are ignored.
inline constexpr std::uint32_t kKnownFeatures = 0;

enum class PreambleKind : std::uint8_t {
  hello = 1,
  accepted,
  refused,
  side,  ///< one more connection of a session that stands: what follows are a side stream's bytes, unanswered
};

struct Preamble {
  PreambleKind kind = PreambleKind::hello;
  SessionId session;
  std::uint16_t lane = 0, lanes = 1;
  std::uint32_t required = 0, optional = 0;  ///< feature bits
  std::uint32_t window = 0;                  ///< message bytes that this end buffers for its receiver
  std::uint32_t peer_timeout_ms = 0;         ///< this end gives the peer up after so long a silence
  std::string reason;                        ///< of a refusal; cut to kMaxRefusalBytes
  std::uint32_t side = 0;                    ///< a side connection's number
};

/// Its size on the wire, as this version writes it.
std::size_t preamble_bytes(const Preamble& preamble) noexcept;
void encode_preamble(const Preamble& preamble, std::vector<std::byte>& into);
/// The size of the whole preamble whose first kPreamblePrefix bytes these are; refuses other versions.
Result<std::size_t> decode_preamble_size(std::span<const std::byte, kPreamblePrefix> prefix);
/// `bytes` is the whole preamble; its fields are checked for sense.
Result<Preamble> decode_preamble(ConstBytes bytes);

}  // namespace ramferry::tcp
