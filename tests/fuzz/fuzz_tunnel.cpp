// SPDX-License-Identifier: MIT
// A tunnel's session whose peer says anything: streams it never opened, credit it never got, rings of any
// size.
#include "fuzz/canned.hpp"
#include "fuzz/replay.hpp"

#include <ramferry/tunnel/tunnel.hpp>

#include <memory>

using namespace ramferry;

namespace {

constexpr std::uint32_t kRing = 4096;

void message(fuzz::Input& into, std::uint8_t type, std::uint32_t stream, std::uint32_t value) {
  WireWriter(into).u8(type).u32(stream).u32(value);
}

/// The answering end; whether the peer kept to the protocol until it hung up.
bool serve(ConstBytes said) {
  NullLog log;
  static const std::vector<std::byte> kPlain(100, std::byte{'x'});
  const auto dial = []() -> Result<std::unique_ptr<ByteStream>> {
    return std::make_unique<fuzz::Canned<ByteStream>>(kPlain);
  };
  const tunnel::Options options{.ring_bytes = kRing, .most_streams = 4};
  tunnel::Session session(std::make_unique<fuzz::CannedChannel>(said), options, dial, log);
  const auto served = session.run();
  RAMFERRY_FUZZ_CHECK(served || !served.error().message().empty());
  RAMFERRY_FUZZ_CHECK(session.stats().streams_opened <= said.size() / 9);
  RAMFERRY_FUZZ_CHECK(session.stats().open_now == 0);
  return served.has_value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  (void)serve(fuzz::input(data, size));
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  Input whole, odd;
  message(whole, 1, 1, kRing);  // open
  message(whole, 3, 1, 100);    // data
  message(whole, 1, 4, kRing);
  message(whole, 6, 4, 0);  // reset
  message(whole, 3, 1, kRing - 100);
  message(whole, 5, 1, 0);  // end
  RAMFERRY_FUZZ_CHECK(serve(whole));
  message(odd, 1, 2, kRing);
  message(odd, 2, 2, 0);    // opened
  message(odd, 4, 2, 100);  // credit
  message(odd, 7, 2, 0);    // closed
  return {whole, odd};
}
