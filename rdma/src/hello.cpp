// SPDX-License-Identifier: MIT
#include "hello.hpp"

#include "options.hpp"

#include <algorithm>
#include <string>

namespace ramferry::rdma {
namespace {

constexpr std::uint32_t kQemuVersion = 1;
constexpr std::uint32_t kQemuPinAll = 1;
constexpr std::uint32_t kMagic = 0x52465259;  // "RFRY"
constexpr std::uint8_t kVersion = 1;
constexpr std::uint32_t kKnownFeatures = 0;  // required ones

/// Past QEMU's eight bytes and our magic; `who` for the error.
Result<WireReader> open(ConstBytes bytes, bool& pin_all, const std::string& who) {
  WireReader reader(bytes);
  static_cast<void>(reader.u32());
  pin_all = (reader.u32() & kQemuPinAll) != 0;
  const std::uint32_t magic = reader.u32();
  const std::uint8_t version = reader.u8();
  if (reader.ok() && magic == kMagic) {
    if (version != kVersion)
      return fail(errc::unsupported,
                  "reading the " + who + ": version " + std::to_string(version) + " of the protocol",
                  "use the same version of ramferry at both ends");
    return reader;
  }
  if (is_stock_greeting(bytes))
    return fail(errc::unsupported, "reading the " + who + ": it speaks QEMU's own RDMA protocol",
                "add ?dialect=qemu to the address");
  return fail(errc::protocol_mismatch, "reading the " + who);
}

/// What our own options allow. Heartbeats are counted from it: zero would be all the time.
bool is_peer_timeout(std::uint32_t ms) noexcept {
  return ms >= kLeastPeerTimeout * 1000 && ms <= kMostPeerTimeout * 1000;
}

void put_opening(WireWriter& writer, bool pin_all) {
  writer.u32(kQemuVersion).u32(pin_all ? kQemuPinAll : 0).u32(kMagic).u8(kVersion);
}

}  // namespace

bool is_stock_greeting(ConstBytes bytes) noexcept {
  WireReader reader(bytes);
  const std::uint32_t version = reader.u32();
  static_cast<void>(reader.u32());
  return reader.ok() && version == kQemuVersion && reader.u32() == 0;
}

std::vector<std::byte> encode(const Hello& hello) {
  std::vector<std::byte> bytes;
  WireWriter writer(bytes);
  put_opening(writer, hello.pin_all);
  writer.u8(static_cast<std::uint8_t>(hello.kind)).u8(hello.lanes).u8(hello.lane).raw(hello.session.value);
  writer.u64(hello.token).u32(kKnownFeatures).u32(hello.peer_timeout_ms).u16(hello.receives);
  writer.zeros(kMostHelloBytes - bytes.size());
  return bytes;
}

std::vector<std::byte> encode(const Answer& answer) {
  std::vector<std::byte> bytes;
  WireWriter writer(bytes);
  put_opening(writer, false);
  writer.u8(static_cast<std::uint8_t>(answer.verdict)).u16(0).u64(answer.token).u32(kKnownFeatures);
  writer.u32(answer.peer_timeout_ms).u16(answer.receives);
  writer.zeros(kMostHelloBytes - bytes.size());
  return bytes;
}

Result<Hello> decode_hello(ConstBytes bytes) {
  Hello hello;
  const std::string who = "source's hello";
  RAMFERRY_TRY_ASSIGN(WireReader reader, open(bytes, hello.pin_all, who));
  hello.kind = static_cast<Hello::Kind>(reader.u8());
  hello.lanes = reader.u8();
  hello.lane = reader.u8();
  const ConstBytes session = reader.raw(hello.session.value.size());
  std::copy(session.begin(), session.end(), hello.session.value.begin());
  hello.token = reader.u64();
  const std::uint32_t required = reader.u32();
  hello.peer_timeout_ms = reader.u32();
  hello.receives = reader.u16();
  RAMFERRY_TRY(reader.finish_prefix("the " + who));
  if ((required & ~kKnownFeatures) != 0)
    return fail(errc::unsupported, "reading the " + who + ": it requires features that are unknown here",
                "use the same version of ramferry at both ends");
  const bool kind_known = hello.kind == Hello::Kind::control || hello.kind == Hello::Kind::lane;
  if (!kind_known || hello.lanes == 0 || hello.lanes > kMostLanes || hello.lane >= hello.lanes ||
      hello.receives < 8 || !is_peer_timeout(hello.peer_timeout_ms) || hello.session.is_nil())
    return fail(errc::protocol_mismatch, "reading the " + who + ": a field is out of range");
  return hello;
}

Result<Answer> decode_answer(ConstBytes bytes) {
  Answer answer;
  const std::string who = "destination's answer";
  bool unused = false;
  RAMFERRY_TRY_ASSIGN(WireReader reader, open(bytes, unused, who));
  answer.verdict = static_cast<Answer::Verdict>(reader.u8());
  static_cast<void>(reader.u16());
  answer.token = reader.u64();
  const std::uint32_t required = reader.u32();
  answer.peer_timeout_ms = reader.u32();
  answer.receives = reader.u16();
  RAMFERRY_TRY(reader.finish_prefix("the " + who));
  switch (answer.verdict) {
    case Answer::Verdict::accepted: break;
    case Answer::Verdict::unknown_session:
      return fail(errc::peer_failed, "connecting: the destination does not know this session",
                  "connect again: it forgets sessions that take longer than 10 s to connect");
    case Answer::Verdict::overloaded:
      return fail(errc::in_use, "connecting: the destination is busy with other sessions that connect",
                  "try again in 10 s: it forgets them then");
    case Answer::Verdict::unsupported:
      return fail(errc::unsupported, "connecting: the destination does not support what we require",
                  "use the same version of ramferry at both ends");
    default: return fail(errc::peer_failed, "connecting: the destination refused", "its log says why");
  }
  if ((required & ~kKnownFeatures) != 0)
    return fail(errc::unsupported, "reading the " + who + ": it requires features that are unknown here",
                "use the same version of ramferry at both ends");
  if (answer.receives < 8 || !is_peer_timeout(answer.peer_timeout_ms))
    return fail(errc::protocol_mismatch, "reading the " + who + ": a field is out of range");
  return answer;
}

}  // namespace ramferry::rdma
