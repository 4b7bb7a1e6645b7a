// SPDX-License-Identifier: MIT
#include "message.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>

namespace ramferry::rdma {
namespace {

/// On the wire; 0 means nothing, so that zeroed memory is no message.
enum class Type : std::uint8_t {
  start = 1,
  welcome,
  bytes,
  zero,
  store,
  finish,
  want,
  grant,
  by_message,
  reclaim,
  release,
  fence,
  settled,
  revoked,
  heartbeat,
  farewell,
};

constexpr std::size_t kMostFarewell = 1024;
constexpr std::uint32_t kLaneFenceMagic = 0x52464c46;  // "RFLF"

bool is_data(Type type) noexcept {
  return type == Type::bytes || type == Type::zero || type == Type::store;
}

static_assert(std::variant_size_v<Message> == static_cast<std::size_t>(Type::farewell),
              "in the order of Type");

std::uint32_t number(SlotId slot) noexcept {
  return static_cast<std::uint32_t>(slot);
}

/// Appends the body of each message.
struct BodyWriter {
  WireWriter& to;

  void operator()(const Start& m) { to.u16(m.lanes); }
  void operator()(const Welcome&) {}
  void operator()(const BytesMessage& m) { to.raw(m.bytes); }
  void operator()(const ZeroMessage& m) {
    for (const ZeroRun& run : m.runs) to.u32(number(run.slot)).u64(run.offset).u64(run.length);
  }
  void operator()(const StoreMessage& m) {
    to.u32(number(m.slot)).u64(m.offset).u64(m.length).u8(m.encoding).u8(m.more ? 1 : 0).raw(m.bytes);
  }
  void operator()(const Finish&) {}
  void operator()(const WantMessage& m) {
    to.u8(m.urgent ? 1 : 0);
    for (const Want& want : m.wants)
      to.u32(number(want.slot)).u64(want.offset).u64(want.length).u64(want.reach);
  }
  void operator()(const GrantMessage& m) {
    for (const Grant& g : m.grants)
      to.u32(number(g.slot)).u64(g.offset).u64(g.length).u64(g.base).u32(g.key).u64(g.slot_size);
  }
  void operator()(const ByMessage& m) { to.u32(number(m.slot)).u64(m.slot_size); }
  void operator()(const Reclaim& m) { to.u64(m.bytes); }
  void operator()(const ReleaseMessage& m) {
    for (const Release& each : m.releases) to.u32(number(each.slot)).u64(each.offset).u64(each.length);
  }
  void operator()(const FenceMessage& m) { to.u64(m.epoch).u64(m.lanes).u64(m.writes).u64(m.bytes); }
  void operator()(const Settled& m) { to.u64(m.epoch); }
  void operator()(const Revoked& m) { to.u8(m.lanes_closed ? 1 : 0); }
  void operator()(const Heartbeat&) {}
  void operator()(const Farewell& m) { to.raw(as_bytes(std::string_view(m.text).substr(0, kMostFarewell))); }
};

SlotId read_slot(WireReader& from) noexcept {
  return static_cast<SlotId>(from.u32());
}

template <class List, class Read>
void read_list(WireReader& from, List& list, Read read) {
  while (from.ok() && from.left() > 0) list.push_back(read());
}

ZeroMessage read_zero(WireReader& from) {
  ZeroMessage message;
  read_list(from, message.runs, [&] {
    const SlotId slot = read_slot(from);
    const std::uint64_t offset = from.u64();
    return ZeroRun{slot, offset, from.u64()};
  });
  return message;
}

StoreMessage read_store(WireReader& from) {
  StoreMessage message;
  message.slot = read_slot(from);
  message.offset = from.u64();
  message.length = from.u64();
  message.encoding = from.u8();
  message.more = from.u8() != 0;
  message.bytes = from.raw(from.left());
  return message;
}

WantMessage read_want(WireReader& from) {
  WantMessage message;
  message.urgent = from.u8() != 0;
  read_list(from, message.wants, [&] {
    Want want{.slot = read_slot(from)};
    want.offset = from.u64();
    want.length = from.u64();
    want.reach = from.u64();
    return want;
  });
  return message;
}

GrantMessage read_grant(WireReader& from) {
  GrantMessage message;
  read_list(from, message.grants, [&] {
    Grant grant{.slot = read_slot(from)};
    grant.offset = from.u64();
    grant.length = from.u64();
    grant.base = from.u64();
    grant.key = from.u32();
    grant.slot_size = from.u64();
    return grant;
  });
  return message;
}

ByMessage read_by_message(WireReader& from) {
  ByMessage message{.slot = read_slot(from)};
  message.slot_size = from.u64();
  return message;
}

ReleaseMessage read_release(WireReader& from) {
  ReleaseMessage message;
  read_list(from, message.releases, [&] {
    Release release{.slot = read_slot(from)};
    release.offset = from.u64();
    release.length = from.u64();
    return release;
  });
  return message;
}

FenceMessage read_fence(WireReader& from) {
  FenceMessage message;
  message.epoch = from.u64();
  message.lanes = from.u64();
  message.writes = from.u64();
  message.bytes = from.u64();
  return message;
}

Farewell read_farewell(WireReader& from) {
  const ConstBytes text = from.raw(std::min(from.left(), kMostFarewell));
  Farewell message{std::string(reinterpret_cast<const char*>(text.data()), text.size())};
  // It ends up on somebody's terminal.
  std::replace_if(
      message.text.begin(), message.text.end(),
      [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; }, '?');
  return message;
}

Result<Message> read_body(Type type, WireReader& from) {
  switch (type) {
    case Type::start: return Start{from.u16()};
    case Type::welcome: return Welcome{};
    case Type::bytes: return BytesMessage{from.raw(from.left())};
    case Type::zero: return read_zero(from);
    case Type::store: return read_store(from);
    case Type::finish: return Finish{};
    case Type::want: return read_want(from);
    case Type::grant: return read_grant(from);
    case Type::by_message: return read_by_message(from);
    case Type::reclaim: return Reclaim{from.u64()};
    case Type::release: return read_release(from);
    case Type::fence: return read_fence(from);
    case Type::settled: return Settled{from.u64()};
    case Type::revoked: return Revoked{from.u8() != 0};
    case Type::heartbeat: return Heartbeat{};
    case Type::farewell: return read_farewell(from);
  }
  return fail(errc::protocol_mismatch,
              "reading a control message of type " + std::to_string(static_cast<int>(type)));
}

}  // namespace

std::vector<std::byte> encode(const Message& message) {
  std::vector<std::byte> frame;
  WireWriter writer(frame);
  const auto type = static_cast<std::uint8_t>(message.index() + 1);
  writer.u8(type).u8(0).u16(0).u32(0).u64(0);
  std::visit(BodyWriter{writer}, message);
  const auto length = static_cast<std::uint32_t>(frame.size() - kHeaderBytes);
  for (std::size_t i = 0; i < 4; ++i) frame[4 + i] = static_cast<std::byte>(length >> (24 - 8 * i));
  return frame;
}

void stamp(Bytes frame, const Header& header) noexcept {
  for (std::size_t i = 0; i < 2; ++i) frame[2 + i] = static_cast<std::byte>(header.credits >> (8 - 8 * i));
  for (std::size_t i = 0; i < 8; ++i) frame[8 + i] = static_cast<std::byte>(header.consumed >> (56 - 8 * i));
}

std::uint64_t data_bytes(ConstBytes frame) noexcept {
  return is_data(static_cast<Type>(frame[0])) ? frame.size() - kHeaderBytes : 0;
}

Result<Frame> decode(ConstBytes bytes) {
  constexpr std::string_view kWhat = "a control message";
  WireReader reader(bytes);
  const auto type = static_cast<Type>(reader.u8());
  static_cast<void>(reader.u8());
  Frame frame;
  frame.header.credits = reader.u16();
  const std::uint32_t length = reader.u32();
  frame.header.consumed = reader.u64();
  RAMFERRY_TRY(reader.finish_prefix(kWhat));
  if (length != reader.left())
    return fail(errc::protocol_mismatch, "reading a control message: it says " + std::to_string(length) +
                                             " bytes and has " + std::to_string(reader.left()));
  frame.data_bytes = data_bytes(bytes);
  RAMFERRY_TRY_ASSIGN(frame.message, read_body(type, reader));
  RAMFERRY_TRY(reader.finish(kWhat));
  return frame;
}

void encode(const LaneFence& fence, Bytes into) noexcept {
  const std::array<std::uint64_t, 4> fields{kLaneFenceMagic, fence.epoch, fence.writes, fence.bytes};
  for (std::size_t at = 0; at < kLaneFenceBytes; ++at)
    into[at] = static_cast<std::byte>(fields[at / 8] >> (56 - at % 8 * 8));
}

Result<LaneFence> decode_lane_fence(ConstBytes bytes) {
  WireReader reader(bytes);
  const std::uint64_t magic = reader.u64();
  LaneFence fence;
  fence.epoch = reader.u64();
  fence.writes = reader.u64();
  fence.bytes = reader.u64();
  RAMFERRY_TRY(reader.finish("a fence"));
  if (magic != kLaneFenceMagic) return fail(errc::protocol_mismatch, "reading a fence");
  return fence;
}

}  // namespace ramferry::rdma
