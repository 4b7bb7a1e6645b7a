// SPDX-License-Identifier: MIT
// The ways in which a kept VM leaves, and what they share.
#pragma once

#include <ramferry/checkpoint/sender.hpp>
#include <ramferry/hooked_stream.hpp>
#include <ramferry/migration/ram_wire.hpp>
#include <ramferry/migration/savevm.hpp>

#include <atomic>
#include <functional>
#include <vector>

namespace ramferry::checkpoint {

namespace ram_wire = migration::ram_wire;

class Sender::Engine {
 public:
  Engine(Link link, std::filesystem::path path, SendOptions options)
      : path_(std::move(path)), options_(options), link_(std::move(link)) {}

  Result<SendReport> run();
  void cancel() noexcept;
  std::uint64_t ram_bytes() const noexcept { return ram_bytes_.load(); }
  std::uint64_t done_bytes() const noexcept { return done_bytes_.load(); }

 private:
  Result<> send_any();
  Result<> send_records(const CheckpointFile& file, ByteStream& stream);
  Result<> send_plain(ByteStream& stream);
  Result<> send_hooked(const CheckpointFile& file, HookedStream& stream);
  Result<> place_pages(const CheckpointFile& file, HookedStream& stream);
  Result<> end_stream(ByteStream& stream);
  Result<> send_native(const CheckpointFile& file, Channel& channel);

  std::filesystem::path path_;
  SendOptions options_;
  Link link_;
  SendReport report_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<std::uint64_t> ram_bytes_ = 0, done_bytes_ = 0;
};

/// Bytes of the stream's frame around the RAM section, as `head` had it: how one of its parts begins (START
/// has the blocks behind it), and how each ends.
void append_ram_mark(WireWriter& out, const CheckpointHead& head, migration::savevm::Mark mark);
void append_blocks(WireWriter& out, const CheckpointHead& head);
void append_part_end(WireWriter& out, const CheckpointHead& head);
/// The whole START, with one more record in it unless that is 0, and what starts beside RAM.
void append_ram_start(WireWriter& out, const CheckpointHead& head, std::uint64_t record = 0);

/// Calls back for every stretch of a block, in order: pages with content (`run` points to them) or zeros (it
/// is null).
struct Stretch {
  std::uint32_t block = 0;
  std::uint64_t first = 0, count = 0;
  const StoredRun* run = nullptr;
};
Result<> each_stretch(const CheckpointFile& file, const std::function<Result<>(const Stretch&)>& visit);

}  // namespace ramferry::checkpoint
