// SPDX-License-Identifier: MIT
// A destination that is fed a plain stream: the savevm reader, the RAM section's records, the run state.
#include "fuzz/incoming_guest.hpp"

using namespace ramferry;

namespace {

bool take_in(ConstBytes bytes) {
  return fuzz::take_in(std::unique_ptr<ByteStream>(std::make_unique<fuzz::Canned<ByteStream>>(bytes)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  (void)take_in(fuzz::input(data, size));
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  const auto whole = savevm_stream(false);
  RAMFERRY_FUZZ_CHECK(::take_in(whole));
  return {whole};
}
