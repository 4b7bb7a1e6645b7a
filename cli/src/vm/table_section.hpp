// SPDX-License-Identifier: MIT
// The page table as device state: a live section, so that only what changed lately is left for the downtime.
//
//   start     u32 blocks; per block u8 length, name, u64 pages; then records
//   part, end records
//   record    u8 0: end of this part
//             u8 1: u32 block, u64 first page, u32 count, count × u32 entry
//             u8 2: u32 block, u64 first page, u32 count, u32 entry, the same for all
#pragma once

#include "vm/guest_memory.hpp"
#include "vm/page_table.hpp"

#include <ramferry/migration/section.hpp>

#include <cstddef>
#include <vector>

namespace ramferry::vm {

class TableSection final : public migration::SectionHandler {
 public:
  /// Borrows both.
  TableSection(const migration::RamLayout& layout, PageTable& table) : layout_(layout), table_(table) {}

  migration::SectionId id() const override { return {.name = "ramferry/table", .instance = 0, .version = 1}; }
  bool live() const noexcept override { return true; }
  Result<> begin(migration::SectionWriter& writer) override;
  Result<migration::Pending> iterate(migration::SectionWriter& writer,
                                     const migration::Budget& budget) override;
  Result<migration::Pending> pending(bool exact) override;
  Result<> finish(migration::SectionWriter& writer) override;
  Result<> load(migration::SectionReader& reader, std::uint32_t version,
                migration::SectionPart part) override;

  /// A whole table has been loaded: what the memory must hold is known.
  bool loaded() const noexcept { return loaded_; }

 private:
  /// Sends changed entries until none are left or `most_bytes` were written.
  Result<> send_changed(migration::SectionWriter& writer, std::uint64_t most_bytes);
  Result<> send_run(migration::SectionWriter& writer, const migration::PageRun& run);
  Result<> load_layout(migration::SectionReader& reader);
  Result<> load_record(migration::SectionReader& reader, std::uint8_t type);

  const migration::RamLayout& layout_;
  PageTable& table_;
  std::vector<std::byte> buffer_;
  std::uint32_t next_block_ = 0;
  std::uint64_t next_word_ = 0;
  bool loaded_ = false;
};

}  // namespace ramferry::vm
