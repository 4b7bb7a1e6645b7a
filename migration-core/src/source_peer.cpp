// SPDX-License-Identifier: MIT
#include "source_peer.hpp"

namespace ramferry::migration {

using native::MessageType;

SourcePeer::SourcePeer(Channel& channel, Waits waits, std::size_t slot_sections)
    : channel_(channel), waits_(waits), ear_(channel) {
  ear_.expect(MessageType::slots_ready, slot_sections);
}

Result<> SourcePeer::greet(native::Hello hello) {
  hello.session = channel_.session();
  const auto begun = Clock::Time::clock::now();
  RAMFERRY_TRY(say(MessageType::hello, native::encode(hello)));
  RAMFERRY_TRY_ASSIGN(const auto message,
                      ear_.await(MessageType::hello_reply, Deadline::after(waits_.hello)));
  round_trip_ = Clock::Time::clock::now() - begun;
  RAMFERRY_TRY_ASSIGN(const auto reply, native::decode_hello_reply(message.payload));
  if (reply.version != native::kVersion)
    return fail(errc::unsupported, "the destination speaks version " + std::to_string(reply.version) +
                                       " of the native protocol, we speak " +
                                       std::to_string(native::kVersion));
  blank_ = reply.blank;
  return {};
}

Result<> SourcePeer::await_prepared() {
  RAMFERRY_TRY(ear_.await(MessageType::prepared, Deadline::after(waits_.answer)));
  return {};
}

Result<> SourcePeer::commit() {
  const Deadline deadline = Deadline::after(waits_.answer);
  ear_.expect(MessageType::running);
  ear_.limit(waits_.answer);
  RAMFERRY_TRY(say(MessageType::commit));
  RAMFERRY_TRY(ear_.await(MessageType::running, deadline));
  return {};
}

Result<> SourcePeer::say(MessageType type, ConstBytes payload) {
  if (auto sent = native::send_message(channel_, type, payload); !sent)
    return within(std::move(sent).error(),
                  "sending '" + std::string(to_string(type)) + "' to the destination");
  return {};
}

Error SourcePeer::reason(Error otherwise) const {
  return ear_.failure().value_or(std::move(otherwise));
}

Result<> SourcePeer::slots_ready() {
  return fail(errc::wrong_state, "announcing slots as the source");
}

Result<> SourcePeer::await_slots() {
  RAMFERRY_TRY(ear_.await(MessageType::slots_ready, Deadline::after(waits_.answer)));
  return {};
}

}  // namespace ramferry::migration
