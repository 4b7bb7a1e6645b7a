// SPDX-License-Identifier: MIT
// The messages of the native protocol, as either end reads them.
#include "fuzz/incoming_guest.hpp"

#include <ramferry/migration/section_stream.hpp>

using namespace ramferry;
using namespace ramferry::migration;
using native::MessageType;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Canned<ByteStream> stream(fuzz::input(data, size));
  StreamReader in(stream);
  for (;;) {
    const auto message = native::read_message(in);
    if (!message) return 0;
    RAMFERRY_FUZZ_CHECK(message->payload.size() <= native::kMostPayload);
    if (const auto hello = native::decode_hello(message->payload))
      RAMFERRY_FUZZ_CHECK(hello->machine.size() <= 0xffff);
    (void)native::decode_hello_reply(message->payload);
    const Error failed = native::decode_failed(message->payload, "the peer");
    RAMFERRY_FUZZ_CHECK(failed.message().find('\n') == std::string::npos);
  }
}

std::vector<fuzz::Input> fuzz::seeds() {
  const auto framed = [](MessageType type, ConstBytes payload) {
    Input bytes;
    WireWriter(bytes)
        .u8(static_cast<std::uint8_t>(type))
        .u32(static_cast<std::uint32_t>(payload.size()))
        .raw(payload);
    return bytes;
  };
  return {framed(MessageType::hello, native::encode(native::Hello{.machine = "box"})),
          framed(MessageType::hello_reply, native::encode(native::HelloReply{.blank = true})),
          framed(MessageType::failed, native::encode_failed("why\nnot")), framed(MessageType::prepared, {})};
}
