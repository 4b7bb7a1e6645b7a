// SPDX-License-Identifier: MIT
// A migration stream from anybody: frame, RAM records, machine state.
#include "checkpoint/stream_builder.hpp"
#include "fuzz/replay.hpp"
#include "machine_state.hpp"
#include "page_store.hpp"
#include "savevm_parser.hpp"
#include "stream_saver.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

using namespace ramferry;
using namespace ramferry::checkpoint;

namespace {

/// Room is taken 64 MiB ahead, which in memory takes longer than all the rest of a case: only what is needed,
/// then.
void keep_files_small() {
  static const bool done = [] {
    constexpr rlim_t kMost = 16 << 20;
    const rlimit limit{kMost, kMost};
    std::signal(SIGXFSZ, SIG_IGN);
    return ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
  }();
  RAMFERRY_FUZZ_CHECK(done);
}

void take(ConstBytes input, int fd) {
  test::PlayedStream played({input.begin(), input.end()}, 5000);
  StreamInput in(played);
  PageStore pages(fd, "fuzz");
  StreamSaver saver(&pages);
  SavevmParser parser(in, saver, RamBody::records);
  if (!parser.read_ram()) return;
  RAMFERRY_FUZZ_CHECK(pages.blocks() == saver.blocks());
  RAMFERRY_FUZZ_CHECK(saver.seen_bytes() <= saver.ram_bytes());
  const auto state = read_state(in, {});
  if (!state) return;
  RAMFERRY_FUZZ_CHECK(state->description_length == 0 ||
                      state->description_at + state->description_length == state->bytes.size());
  RAMFERRY_FUZZ_CHECK(pages.settle().has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  keep_files_small();
  const int fd = ::memfd_create("fuzz", 0);
  RAMFERRY_FUZZ_CHECK(fd >= 0);
  take(fuzz::input(data, size), fd);
  ::close(fd);
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  // One page of content in all: every truncation of a seed is tried.
  test::StreamBuilder plain;
  plain.head().start({{"ram", 2 * test::kPage}, {"rom", test::kPage}});
  plain.part().zeroed(0, "ram").filled(test::kPage, test::page_of(1)).zeroed(0, "rom").finish();
  plain.part(3).zeroed(test::kPage, "ram").finish().devices();
  test::StreamBuilder odd;
  odd.head().command(1).command(2, std::array<std::byte, 4>{}).start({{"ram", 2 * test::kPage}});
  odd.part().zeroed(0, "ram", 3).zeroed(test::kPage, {}, 7).finish();
  odd.part(3).record(0, test::StreamBuilder::delta, "ram").u8(1).u16(3).u8(1).u8(1).u8(9).finish();
  odd.devices(false);
  // Ends inside a device's state: a whole one, one that is cut off.
  test::StreamBuilder decoys;
  decoys.head().start({{"ram", test::kPage}}).part(3).zeroed(0, "ram").finish().section(4, 1, "disk", 1);
  for (const std::uint32_t length : {65U, 999U}) {
    decoys.u8(0x7e).u32(1).u8(0).u8(6).u32(length);
    decoys.raw(as_bytes(R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}]  })"));
  }
  decoys.u8(0x7e).u32(1).u8(0).u8(6).u32(65);
  decoys.raw(as_bytes(R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}]  })"));
  return {plain.bytes(), odd.bytes(), decoys.bytes()};
}
