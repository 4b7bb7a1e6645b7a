// SPDX-License-Identifier: MIT
#include "qemu_message.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <string>

namespace ramferry::rdma::qemu {
namespace {

constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kPinAll = 1;
constexpr std::array<std::string_view, 12> kNames{"none",
                                                  "error",
                                                  "ready",
                                                  "stream",
                                                  "blocks request",
                                                  "blocks result",
                                                  "zero",
                                                  "register request",
                                                  "register result",
                                                  "round over",
                                                  "unregister request",
                                                  "unregister result"};

std::size_t record_bytes(MessageType type) noexcept {
  switch (type) {
    case MessageType::blocks_result: return 32;
    case MessageType::zero:
    case MessageType::register_request:
    case MessageType::unregister_request: return 24;
    case MessageType::register_result: return 16;
    default: return 0;
  }
}

Failure malformed(const std::string& what) {
  return fail(errc::protocol_mismatch, "reading a message of QEMU's RDMA protocol: " + what);
}

Result<> check_records(const Message& message, std::uint32_t repeat) {
  const std::size_t each = record_bytes(message.type);
  if (each == 0) return {};
  const std::size_t count = message.data.size() / each;
  const std::string what =
      std::string(to_string(message.type)) + " of " + std::to_string(message.data.size()) + " bytes";
  if (count == 0 || count * each != message.data.size()) return malformed(what);
  const bool is_request =
      message.type == MessageType::register_request || message.type == MessageType::unregister_request;
  if (is_request && (count > kMostRequests || repeat != count))
    return malformed(what + " for " + std::to_string(repeat) + " requests");
  return {};
}

/// Calls back with a reader for each record of `type`.
template <class Record, class Read>
std::vector<Record> each_record(const Message& message, MessageType type, MessageType or_type, Read read) {
  std::vector<Record> all;
  if (message.type != type && message.type != or_type) return all;
  const std::size_t bytes = record_bytes(message.type);
  for (ConstBytes rest = message.data; rest.size() >= bytes; rest = rest.subspan(bytes)) {
    WireReader in(rest.first(bytes));
    all.push_back(read(in));
  }
  return all;
}

}  // namespace

std::string_view to_string(MessageType type) noexcept {
  const auto index = static_cast<std::size_t>(type);
  return index < kNames.size() ? kNames[index] : "unknown";
}

Result<Message> decode(ConstBytes bytes) {
  WireReader in(bytes);
  const std::uint32_t length = in.u32();
  const std::uint32_t type = in.u32();
  const std::uint32_t repeat = in.u32();
  static_cast<void>(in.u32());
  if (!in.ok()) return malformed("only " + std::to_string(bytes.size()) + " bytes");
  if (type == 0 || type >= kNames.size()) return malformed("type " + std::to_string(type));
  if (length != in.left() || bytes.size() > kMostMessageBytes)
    return malformed(std::to_string(length) + " bytes are announced, and " + std::to_string(in.left()) +
                     " came");
  const Message message{static_cast<MessageType>(type), in.raw(length)};
  RAMFERRY_TRY(check_records(message, repeat));
  return message;
}

std::size_t encode(MessageType type, std::uint32_t repeat, ConstBytes data, Bytes into) {
  std::vector<std::byte> header;
  header.reserve(kHeaderBytes);
  WireWriter out(header);
  out.u32(static_cast<std::uint32_t>(data.size())).u32(static_cast<std::uint32_t>(type)).u32(repeat).u32(0);
  assert(header.size() + data.size() <= into.size());
  std::copy(data.begin(), data.end(), std::copy(header.begin(), header.end(), into.begin()));
  return header.size() + data.size();
}

std::vector<Block> blocks_of(const Message& message) {
  constexpr auto kType = MessageType::blocks_result;
  return each_record<Block>(message, kType, kType, [](WireReader& in) {
    return Block{.address = in.u64(), .offset = in.u64(), .length = in.u64(), .key = in.u32()};
  });
}

std::vector<RegisterRequest> requests_of(const Message& message) {
  return each_record<RegisterRequest>(message, MessageType::register_request, MessageType::unregister_request,
                                      [](WireReader& in) {
                                        RegisterRequest request{.where = in.u64(), .block = in.u32()};
                                        static_cast<void>(in.u32());
                                        request.more_chunks = in.u64();
                                        return request;
                                      });
}

std::vector<RegisterResult> results_of(const Message& message) {
  constexpr auto kType = MessageType::register_result;
  return each_record<RegisterResult>(message, kType, kType, [](WireReader& in) {
    RegisterResult result{.key = in.u32()};
    static_cast<void>(in.u32());
    result.address = in.u64();
    return result;
  });
}

Zero zero_of(const Message& message) {
  // Stock destinations look at the first record only, and stock sources send no other.
  const auto all = each_record<Zero>(message, MessageType::zero, MessageType::zero, [](WireReader& in) {
    return Zero{.value = in.u32(), .block = in.u32(), .where = in.u64(), .length = in.u64()};
  });
  return all.empty() ? Zero{} : all.front();
}

std::vector<std::byte> records(std::span<const Block> blocks) {
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  for (const Block& block : blocks)
    out.u64(block.address).u64(block.offset).u64(block.length).u32(block.key).u32(0);
  return bytes;
}

std::vector<std::byte> records(const RegisterRequest& request) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u64(request.where).u32(request.block).u32(0).u64(request.more_chunks);
  return bytes;
}

std::vector<std::byte> records(std::span<const RegisterResult> results) {
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  for (const RegisterResult& result : results) out.u32(result.key).u32(0).u64(result.address);
  return bytes;
}

std::vector<std::byte> records(const Zero& zero) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u32(zero.value).u32(zero.block).u64(zero.where).u64(zero.length);
  return bytes;
}

std::vector<std::byte> encode(Greeting greeting) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u32(kVersion).u32(greeting.pin_all ? kPinAll : 0);
  return bytes;
}

Result<Greeting> decode_greeting(ConstBytes bytes) {
  WireReader in(bytes);
  const std::uint32_t version = in.u32(), flags = in.u32();
  RAMFERRY_TRY(in.finish_prefix("what the peer says while connecting"));
  if (version != kVersion)
    return fail(errc::unsupported,
                "connecting: the peer speaks version " + std::to_string(version) + " of QEMU's RDMA protocol",
                "version 1 is the only one known");
  return Greeting{.pin_all = (flags & kPinAll) != 0};
}

}  // namespace ramferry::rdma::qemu
