// SPDX-License-Identifier: MIT
// A destination that is fed a native conversation: hello, the savevm stream with its epochs, COMMIT or
// FAILED.
#include "fuzz/incoming_guest.hpp"

using namespace ramferry;
using namespace ramferry::migration;

namespace {

fuzz::Input conversation(native::MessageType last, ConstBytes payload) {
  fuzz::Input bytes;
  const auto hello = native::encode(native::Hello{.optional = 3, .machine = "ramferry-1"});
  const auto savevm = fuzz::savevm_stream(true);
  WireWriter(bytes)
      .u8(1)
      .u32(static_cast<std::uint32_t>(hello.size()))
      .raw(hello)
      .raw(savevm)
      .u8(static_cast<std::uint8_t>(last))
      .u32(static_cast<std::uint32_t>(payload.size()))
      .raw(payload);
  return bytes;
}

}  // namespace

namespace {

bool take_in(ConstBytes bytes) {
  return fuzz::take_in(std::unique_ptr<Channel>(std::make_unique<fuzz::CannedChannel>(bytes)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  (void)take_in(fuzz::input(data, size));
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  const auto committed = conversation(native::MessageType::commit, {});
  const auto failed = conversation(native::MessageType::failed, native::encode_failed("no disk"));
  RAMFERRY_FUZZ_CHECK(::take_in(committed) && !::take_in(failed));
  return {committed, failed};
}
