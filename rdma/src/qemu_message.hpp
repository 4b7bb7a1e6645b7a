// SPDX-License-Identifier: MIT
// The messages of QEMU's own RDMA migration, version 1: docs/protocol-rdma.md has a table of them.
//
// What decode() returned is sound in itself: lengths fit, counts agree, records are whole. That blocks,
// offsets and ranges exist is for the reader to check, against its own blocks.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace ramferry::rdma::qemu {

enum class MessageType : std::uint32_t {
  none = 0,
  error = 1,                ///< the sender has given up
  ready = 2,                ///< one more message may be sent
  stream = 3,               ///< bytes of the migration stream
  blocks_request = 4,       ///< source: which blocks do you have?
  blocks_result = 5,        ///< Block for each
  zero = 6,                 ///< Zero
  register_request = 7,     ///< RegisterRequest for each
  register_result = 8,      ///< RegisterResult for each
  round_over = 9,           ///< source: the stream goes on
  unregister_request = 10,  ///< RegisterRequest for each
  unregister_result = 11,
};
std::string_view to_string(MessageType type) noexcept;

inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::size_t kMostMessageBytes = 512U << 10;  ///< header included
inline constexpr std::size_t kMostStreamBytes = 32U << 10;    ///< in one message, as QEMU sends them
inline constexpr std::uint32_t kMostRequests = 4096;          ///< in one message
inline constexpr std::size_t kMostBlocks = (kMostMessageBytes - kHeaderBytes) / 32;
inline constexpr std::uint64_t kChunkBytes = 1U << 20;  ///< what registrations are counted in

struct Message {
  MessageType type = MessageType::none;
  ConstBytes data;  ///< of the decoded bytes
};

/// errc::protocol_mismatch for a type that there is not, lengths that do not agree, records in part.
Result<Message> decode(ConstBytes bytes);
/// Into the first bytes of `into`, which must have room; how many they are.
std::size_t encode(MessageType type, std::uint32_t repeat, ConstBytes data, Bytes into);

/// A RAM block of the destination.
struct Block {
  std::uint64_t address = 0;  ///< what its memory is called in writes
  std::uint64_t offset = 0;   ///< where it begins in the destination's own numbering of all RAM
  std::uint64_t length = 0;
  std::uint32_t key = 0;  ///< 0: ask for one, chunk by chunk
  bool operator==(const Block&) const = default;
};

/// Make chunks ready to be written.
struct RegisterRequest {
  std::uint64_t where = 0;  ///< in the destination's numbering
  std::uint32_t block = 0;
  std::uint64_t more_chunks = 0;  ///< beside the one that `where` lies in
  bool operator==(const RegisterRequest&) const = default;
};

struct RegisterResult {
  std::uint32_t key = 0;
  std::uint64_t address = 0;  ///< of the block's first byte
  bool operator==(const RegisterResult&) const = default;
};

/// Fill a range with a value.
struct Zero {
  std::uint32_t value = 0;
  std::uint32_t block = 0;
  std::uint64_t where = 0;  ///< in the destination's numbering
  std::uint64_t length = 0;
  bool operator==(const Zero&) const = default;
};

// The records of a message of their type; those of any other message are none.
std::vector<Block> blocks_of(const Message& message);
std::vector<RegisterRequest> requests_of(const Message& message);
std::vector<RegisterResult> results_of(const Message& message);
Zero zero_of(const Message& message);

std::vector<std::byte> records(std::span<const Block> blocks);
std::vector<std::byte> records(const RegisterRequest& request);
std::vector<std::byte> records(std::span<const RegisterResult> results);
std::vector<std::byte> records(const Zero& zero);

/// What either end says while connecting.
struct Greeting {
  bool pin_all = false;
};
std::vector<std::byte> encode(Greeting greeting);
/// errc::unsupported for another version, errc::protocol_mismatch for too few bytes. Further bytes are
/// ignored.
Result<Greeting> decode_greeting(ConstBytes bytes);

}  // namespace ramferry::rdma::qemu
