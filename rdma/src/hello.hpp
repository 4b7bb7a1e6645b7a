// SPDX-License-Identifier: MIT
// What the two ends say while they connect: our hello and answer, behind the eight bytes that QEMU's own RDMA
// migration sends there. A stock QEMU ignores ours; we recognise it by their absence.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/session_id.hpp>

#include <cstdint>
#include <vector>

namespace ramferry::rdma {

inline constexpr std::size_t kMostHelloBytes = 56;  ///< what the connection manager carries

struct Hello {
  enum class Kind : std::uint8_t { control = 1, lane = 2 };
  Kind kind = Kind::control;
  std::uint8_t lanes = 0;  ///< of the whole session
  std::uint8_t lane = 0;   ///< Kind::lane: which
  bool pin_all = false;
  SessionId session;
  std::uint64_t token = 0;  ///< Kind::lane: from the answer to the control connection's hello
  std::uint32_t peer_timeout_ms = 0;
  std::uint16_t receives = 0;  ///< control messages that may be sent before any was acknowledged
};

struct Answer {
  enum class Verdict : std::uint8_t {
    accepted = 1,
    unknown_session = 2,  ///< a lane of a session that is not being made
    overloaded = 3,       ///< too many sessions are being made
    malformed = 4,
    unsupported = 5,  ///< a required feature or version
  };
  Verdict verdict = Verdict::accepted;
  std::uint64_t token = 0;
  std::uint32_t peer_timeout_ms = 0;
  std::uint16_t receives = 0;
};

std::vector<std::byte> encode(const Hello& hello);
std::vector<std::byte> encode(const Answer& answer);

/// Whether a stock QEMU said it, which adds nothing to its eight bytes.
bool is_stock_greeting(ConstBytes bytes) noexcept;
/// errc::unsupported for a stock QEMU and for a version or required feature that we do not have,
/// errc::protocol_mismatch for anything else that is not ours. Trailing bytes are ignored.
Result<Hello> decode_hello(ConstBytes bytes);
Result<Answer> decode_answer(ConstBytes bytes);

}  // namespace ramferry::rdma
