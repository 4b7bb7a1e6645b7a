// SPDX-License-Identifier: MIT
// A kept VM that leaves in QEMU's dialect with its RAM past the stream.
#include "sender_engine.hpp"

#include <array>
#include <cstring>

namespace ramferry::checkpoint {

using migration::savevm::Mark;

namespace {

constexpr std::size_t kMostPages = 256;  // read at a time

/// What will be staged, as the destination should get ready for it.
std::vector<HookedStream::Range> plan_of(const CheckpointFile& file) {
  std::vector<HookedStream::Range> plan;
  for (const StoredRun& run : file.runs())
    plan.push_back({run.block, run.first * kPageBytes, run.count * kPageBytes});
  return plan;
}

/// Reads the next pages of a run straight into what the stream sends; how many.
Result<std::uint64_t> send_some(const CheckpointFile& file, HookedStream& stream, const Stretch& stretch,
                                std::uint64_t skip) {
  const HookedStream::Range wanted{stretch.block, (stretch.first + skip) * kPageBytes,
                                   (stretch.count - skip) * kPageBytes};
  RAMFERRY_TRY_ASSIGN(const Bytes room, stream.stage(wanted));
  std::array<Bytes, kMostPages> into;
  const std::uint64_t count = room.size() / kPageBytes;
  for (std::uint64_t done = 0; done < count;) {
    const std::uint64_t some = std::min<std::uint64_t>(count - done, into.size());
    for (std::uint64_t i = 0; i < some; ++i) into[i] = room.subspan((done + i) * kPageBytes, kPageBytes);
    RAMFERRY_TRY(file.read(*stretch.run, skip + done, std::span(into).first(some)));
    done += some;
  }
  return count;
}

}  // namespace

Result<> Sender::Engine::send_hooked(const CheckpointFile& file, HookedStream& stream) {
  const CheckpointHead& head = file.head();
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  const auto flush = [&]() -> Result<> {
    RAMFERRY_TRY(stream.send(bytes));
    bytes.clear();
    return {};
  };
  out.raw(head.configuration);
  append_ram_mark(out, head, Mark::start);
  append_blocks(out, head);
  out.u64(ram_wire::kHook);
  RAMFERRY_TRY(flush());
  std::vector<std::uint64_t> sizes;
  for (const BlockInfo& block : head.blocks) sizes.push_back(block.bytes);
  RAMFERRY_TRY(stream.agree(sizes, plan_of(file)));
  append_part_end(out, head);
  out.raw(head.beside);

  append_ram_mark(out, head, Mark::part);
  out.u64(ram_wire::kHook);
  RAMFERRY_TRY(flush());
  RAMFERRY_TRY(place_pages(file, stream));
  append_part_end(out, head);

  append_ram_mark(out, head, Mark::end);
  out.u64(ram_wire::kHook);
  RAMFERRY_TRY(flush());
  RAMFERRY_TRY(stream.end_round());
  append_part_end(out, head);
  out.raw(head.state);
  RAMFERRY_TRY(flush());
  RAMFERRY_TRY(stream.finish(Deadline::after(options_.answer_timeout)));
  return {};
}

/// All of RAM in one round.
Result<> Sender::Engine::place_pages(const CheckpointFile& file, HookedStream& stream) {
  const auto place = [&](const Stretch& stretch) -> Result<> {
    if (stretch.run == nullptr) {
      RAMFERRY_TRY(stream.zero({stretch.block, stretch.first * kPageBytes, stretch.count * kPageBytes}));
      done_bytes_ += stretch.count * kPageBytes;
      return {};
    }
    for (std::uint64_t skip = 0; skip < stretch.count;) {
      RAMFERRY_TRY_ASSIGN(const std::uint64_t count, send_some(file, stream, stretch, skip));
      skip += count;
      done_bytes_ += count * kPageBytes;
    }
    return {};
  };
  RAMFERRY_TRY(each_stretch(file, place));
  return stream.end_round();
}

}  // namespace ramferry::checkpoint
