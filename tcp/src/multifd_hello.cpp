// SPDX-License-Identifier: MIT
#include "multifd_hello.hpp"

#include <algorithm>
#include <string>

namespace ramferry::tcp {
namespace {

constexpr std::uint32_t kMultifdMagic = 0x11223344, kMultifdVersion = 1;
constexpr std::size_t kMultifdPad = 39;

}  // namespace

void encode_multifd_hello(const MultifdHello& hello, std::vector<std::byte>& into) {
  WireWriter(into)
      .u32(kMultifdMagic)
      .u32(kMultifdVersion)
      .raw(hello.uuid)
      .u8(hello.channel)
      .zeros(kMultifdPad);
}

Result<MultifdHello> decode_multifd_hello(ConstBytes bytes) {
  WireReader in(bytes);
  const std::uint32_t magic = in.u32(), version = in.u32();
  const ConstBytes uuid = in.raw(16);
  MultifdHello hello;
  hello.channel = in.u8();
  in.raw(kMultifdPad);
  RAMFERRY_TRY(in.finish("the introduction of a multifd channel"));
  if (magic != kMultifdMagic) return fail(errc::protocol_mismatch, "it is no channel of QEMU's multifd");
  if (version != kMultifdVersion)
    return fail(errc::unsupported, "version " + std::to_string(version) + " of QEMU's multifd");
  std::copy(uuid.begin(), uuid.end(), hello.uuid.begin());
  return hello;
}

}  // namespace ramferry::tcp
