// SPDX-License-Identifier: MIT
// What a QEMU destination says on its return path: only a SHUT with the outcome 0 means that it has the
// guest.
#include "fuzz/canned.hpp"
#include "fuzz/replay.hpp"
#include "return_path.hpp"

using namespace ramferry;
using namespace ramferry::checkpoint;

namespace {

fuzz::Input message(std::uint16_t type, ConstBytes data) {
  fuzz::Input bytes;
  WireWriter(bytes).u16(type).u16(static_cast<std::uint16_t>(data.size())).raw(data);
  return bytes;
}

bool taken(ConstBytes bytes) {
  fuzz::Canned<ByteStream> stream(bytes);
  const auto shut = qemu::await_shut(stream, Deadline::never());
  RAMFERRY_FUZZ_CHECK(shut || !shut.error().message().empty());
  return shut.has_value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kLeast = 8;  // of a SHUT
  RAMFERRY_FUZZ_CHECK(!taken(fuzz::input(data, size)) || size >= kLeast);
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  const std::vector<std::byte> zeros(4), ones(4, std::byte{1});
  Input both = message(qemu::kPong, ones);
  const Input good = message(qemu::kShut, zeros), bad = message(qemu::kShut, ones);
  both.insert(both.end(), good.begin(), good.end());
  RAMFERRY_FUZZ_CHECK(taken(both) && !taken(bad));
  return {both, bad};
}
