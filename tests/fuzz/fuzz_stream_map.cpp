// SPDX-License-Identifier: MIT
// `ramferry inspect` on any file: what it finds adds up, and can be shown to people and to programs.
#include "checkpoint/stream_builder.hpp"
#include "fuzz/replay.hpp"
#include "stream_map.hpp"

#include <nlohmann/json.hpp>

using namespace ramferry;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto map = cli::map_stream(fuzz::input(data, size));
  if (!map) {
    RAMFERRY_FUZZ_CHECK(map.error().is(errc::protocol_mismatch));
    return 0;
  }
  std::uint64_t payloads = 0;
  for (const cli::MappedSection& section : map->sections) payloads += section.bytes;
  RAMFERRY_FUZZ_CHECK(map->bytes == size && payloads <= size);
  for (const cli::MappedBlock& block : map->blocks) {
    RAMFERRY_FUZZ_CHECK(block.distinct <= block.seen.size());
    RAMFERRY_FUZZ_CHECK(block.distinct <= block.normal + block.zero + block.xbzrle + block.compressed);
  }
  RAMFERRY_FUZZ_CHECK(!cli::describe(*map).empty());
  using Replace = nlohmann::json::error_handler_t;
  RAMFERRY_FUZZ_CHECK(!cli::to_json(*map).dump(2, ' ', true, Replace::replace).empty());
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  test::StreamBuilder stream;
  stream.head().command(1).start({{"ram", 2 * test::kPage}, {"rom", test::kPage}});
  stream.part().zeroed(0, "ram").filled(test::kPage, test::page_of(1)).zeroed(0, "rom").finish();
  stream.part(3).record(0, test::StreamBuilder::delta, "ram").u8(1).u16(3).u8(1).u8(1).u8(9).finish();
  stream.devices();
  test::StreamBuilder bare;
  bare.head().start({{"ram", test::kPage}}).part(3).zeroed(0, "ram").finish().devices(false);
  return {stream.bytes(), bare.bytes()};
}
