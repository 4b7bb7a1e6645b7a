// SPDX-License-Identifier: MIT
#include <ramferry/migration/native_protocol.hpp>

#include <algorithm>

namespace ramferry::migration::native {
namespace {

constexpr std::size_t kMostText = 4096;

Failure malformed(std::string what) {
  return fail(errc::protocol_mismatch, "reading the peer's " + std::move(what));
}

}  // namespace

std::string_view to_string(MessageType type) noexcept {
  switch (type) {
    case MessageType::hello: return "hello";
    case MessageType::hello_reply: return "hello reply";
    case MessageType::slots_ready: return "slots ready";
    case MessageType::prepared: return "prepared";
    case MessageType::commit: return "commit";
    case MessageType::running: return "running";
    case MessageType::failed: return "failed";
  }
  return "unknown";
}

Result<> send_message(ByteStream& to, MessageType type, ConstBytes payload) {
  std::vector<std::byte> bytes;
  WireWriter(bytes)
      .u8(static_cast<std::uint8_t>(type))
      .u32(static_cast<std::uint32_t>(payload.size()))
      .raw(payload);
  return to.send(bytes);
}

Result<Message> read_message(SectionReader& from) {
  RAMFERRY_TRY_ASSIGN(const std::uint8_t type, from.u8());
  if (type < static_cast<std::uint8_t>(MessageType::hello) ||
      type > static_cast<std::uint8_t>(MessageType::failed))
    return malformed("message of the unknown type " + std::to_string(type));
  RAMFERRY_TRY_ASSIGN(const std::uint32_t length, from.u32());
  Message message{static_cast<MessageType>(type), {}};
  if (length > kMostPayload)
    return malformed("message '" + std::string(to_string(message.type)) + "' of " + std::to_string(length) +
                     " bytes");
  message.payload.resize(length);
  RAMFERRY_TRY(from.get(message.payload));
  return message;
}

std::vector<std::byte> encode(const Hello& hello) {
  std::vector<std::byte> bytes;
  WireWriter(bytes)
      .u16(hello.version)
      .u64(hello.required)
      .u64(hello.optional)
      .raw(hello.session.value)
      .u32(hello.page_bytes)
      .text16(std::string_view(hello.machine).substr(0, 0xff));
  return bytes;
}

Result<Hello> decode_hello(ConstBytes payload) {
  WireReader in(payload);
  Hello hello;
  hello.version = in.u16();
  hello.required = in.u64();
  hello.optional = in.u64();
  const ConstBytes session = in.raw(hello.session.value.size());
  std::copy(session.begin(), session.end(), hello.session.value.begin());
  hello.page_bytes = in.u32();
  hello.machine = in.text16();
  RAMFERRY_TRY(in.finish_prefix("the source's hello"));
  return hello;
}

Result<Hello> accept_hello(const Message& first, std::uint64_t known) {
  if (first.type != MessageType::hello)
    return fail(errc::protocol_mismatch,
                "the source began with '" + std::string(to_string(first.type)) + "', not with its hello");
  RAMFERRY_TRY_ASSIGN(auto hello, decode_hello(first.payload));
  const std::string advice = "use the same version of the program at both ends";
  if (hello.version != kVersion)
    return fail(errc::unsupported,
                "the source speaks version " + std::to_string(hello.version) +
                    " of the native protocol, we speak " + std::to_string(kVersion),
                advice);
  if (const std::uint64_t unknown = hello.required & ~known; unknown != 0)
    return fail(errc::unsupported,
                "the source needs features that are not known here (mask " + std::to_string(unknown) + ")",
                advice);
  return hello;
}

std::vector<std::byte> encode(const HelloReply& reply) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).u16(reply.version).u64(reply.features).u8(reply.blank ? 1 : 0);
  return bytes;
}

Result<HelloReply> decode_hello_reply(ConstBytes payload) {
  WireReader in(payload);
  HelloReply reply;
  reply.version = in.u16();
  reply.features = in.u64();
  reply.blank = in.u8() == 1;
  RAMFERRY_TRY(in.finish_prefix("the destination's reply"));
  return reply;
}

std::vector<std::byte> encode_failed(std::string_view text) {
  std::vector<std::byte> bytes;
  WireWriter(bytes).text16(text.substr(0, kMostText));
  return bytes;
}

Error decode_failed(ConstBytes payload, std::string_view who) {
  WireReader in(payload);
  std::string text = in.text16();
  if (text.size() > kMostText) text.resize(kMostText);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; },
      '?');
  if (text.empty()) text = "no reason given";
  return {make_error_code(errc::peer_failed), "migrating, " + std::string(who) + " says '" + text + "'", {}};
}

Result<> committed(const Result<>& said, const Result<Message>& answer) {
  const auto unknown = [](const std::string& why) { return fail(errc::outcome_unknown, why); };
  if (answer && answer->type == MessageType::failed)
    return Failure(decode_failed(answer->payload, "the source"));
  if (!said) return unknown(said.error().message());
  if (!answer) return unknown(answer.error().message());
  if (answer->type != MessageType::commit)
    return unknown("the source said '" + std::string(to_string(answer->type)) + "' instead of 'commit'");
  return {};
}

}  // namespace ramferry::migration::native
