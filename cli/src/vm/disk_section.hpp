// SPDX-License-Identifier: MIT
// The disk as device state: a live section that is there only when disks are to be moved (`migrate` with
// blk).
//
//   start     u64 bytes of the disk; u8 1: only what differs from a base; u64 hash of the base, or 0; records
//   part, end records
//   record    u8 0: end of this part
//             u8 1: u64 chunk, then its bytes
//             u8 2: u64 chunk, which is all zeros
#pragma once

#include "vm/disk.hpp"

#include <ramferry/migration/section.hpp>

#include <functional>
#include <vector>

namespace ramferry::vm {

class DiskSection final : public migration::SectionHandler {
 public:
  struct Mode {
    bool wanted = false, incremental = false, detect_zeros = false;
  };
  /// `mode` is asked when a migration begins. Borrows the disk.
  DiskSection(Disk& disk, std::function<Mode()> mode) : disk_(disk), ask_(std::move(mode)) {}

  migration::SectionId id() const override { return {.name = "ramferry/disk", .instance = 0, .version = 1}; }
  bool live() const noexcept override { return true; }
  bool needed() const override { return ask_().wanted; }
  bool required() const override { return false; }
  Result<> begin(migration::SectionWriter& writer) override;
  Result<migration::Pending> iterate(migration::SectionWriter& writer,
                                     const migration::Budget& budget) override;
  Result<migration::Pending> pending(bool exact) override;
  Result<> finish(migration::SectionWriter& writer) override;
  void report(migration::Progress& into) const override;
  void cleanup() noexcept override { sending_ = false; }
  Result<> load(migration::SectionReader& reader, std::uint32_t version,
                migration::SectionPart part) override;

 private:
  Result<> send_marked(migration::SectionWriter& writer, std::uint64_t most_bytes, Deadline until);
  Result<> send_chunk(migration::SectionWriter& writer, std::uint64_t chunk);
  Result<bool> is_base(std::uint64_t chunk, ConstBytes content);
  Result<> load_start(migration::SectionReader& reader);
  Result<> load_chunk(migration::SectionReader& reader, std::uint8_t record);

  Disk& disk_;
  const std::function<Mode()> ask_;
  Mode mode_;
  bool sending_ = false;
  std::uint64_t next_ = 0, transferred_ = 0;
  std::vector<bool> sent_;
  std::vector<std::byte> buffer_, base_buffer_;
};

}  // namespace ramferry::vm
