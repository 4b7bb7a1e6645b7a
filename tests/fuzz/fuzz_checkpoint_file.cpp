// SPDX-License-Identifier: MIT
// A checkpoint file from anybody. The input is its metadata: with the right checksums, which an enemy can
// compute.
#include "checkpoint/stream_builder.hpp"
#include "checkpoint_writer.hpp"
#include "file_io.hpp"
#include "format.hpp"
#include "fuzz/replay.hpp"

#include <sys/mman.h>
#include <unistd.h>

using namespace ramferry;
using namespace ramferry::checkpoint;

namespace {

constexpr std::uint64_t kSlots = 3;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ConstBytes metadata = fuzz::input(data, size);
  const int fd = ::memfd_create("fuzz", 0);
  format::Outline outline{.slots = kSlots, .metadata_bytes = size, .metadata_sum = checksum(metadata)};
  const auto head = format::encode(outline);
  RAMFERRY_FUZZ_CHECK(write_at(fd, 0, ConstBytes(head), "fuzz").has_value());
  RAMFERRY_FUZZ_CHECK(::ftruncate(fd, static_cast<off_t>(outline.metadata_at())) == 0);
  RAMFERRY_FUZZ_CHECK(write_at(fd, outline.metadata_at(), metadata, "fuzz").has_value());
  if (const auto file = CheckpointFile::open("/proc/self/fd/" + std::to_string(fd))) {
    test::Page page;
    for (const StoredRun& run : file->runs()) {
      RAMFERRY_FUZZ_CHECK((run.first + run.count) * kPageBytes <= file->head().blocks[run.block].bytes);
      RAMFERRY_FUZZ_CHECK(run.at + run.count * kPageBytes <= outline.metadata_at());
      (void)file->read(run, run.count - 1, std::array{Bytes(page)});
    }
  }
  ::close(fd);
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  Input metadata;
  WireWriter out(metadata);
  test::StreamBuilder state;
  state.devices();
  CheckpointHead head{.machine = "pc-test", .state = state.bytes()};
  head.blocks = {{"ram", 8 * kPageBytes}, {"rom", kPageBytes}};
  format::append_head(out, head);
  out.u32(2).u32(0).u32(2).u32(1).u32(5).u32(1).u32(3).u64(1).u64(2).u64(3);
  out.u32(0);
  return {metadata};
}
