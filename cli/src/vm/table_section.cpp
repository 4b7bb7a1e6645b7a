// SPDX-License-Identifier: MIT
#include "vm/table_section.hpp"

#include <ramferry/bytes.hpp>

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

namespace ramferry::vm {
namespace {

using migration::PageRun;
using migration::Pending;
using migration::SectionPart;
using migration::SectionReader;
using migration::SectionWriter;

enum class Record : std::uint8_t { end = 0, entries = 1, same = 2 };

constexpr std::uint64_t kWordPages = 64;

Failure broken(std::string what) {
  return fail(errc::protocol_mismatch, "loading the page table: " + std::move(what));
}

}  // namespace

Result<> TableSection::begin(SectionWriter& writer) {
  table_.mark_touched();  // the destination begins with a new table
  next_block_ = 0;
  next_word_ = 0;
  RAMFERRY_TRY(writer.u32(static_cast<std::uint32_t>(table_.blocks())));
  for (const migration::RamBlock& block : layout_.blocks()) {
    RAMFERRY_TRY(writer.text8(block.name));
    RAMFERRY_TRY(writer.u64(block.pages()));
  }
  return writer.u8(static_cast<std::uint8_t>(Record::end));
}

Result<Pending> TableSection::iterate(SectionWriter& writer, const migration::Budget& budget) {
  RAMFERRY_TRY(send_changed(writer, budget.bytes));
  return pending(false);
}

Result<Pending> TableSection::pending(bool /*exact*/) {
  return Pending{.bytes = table_.changed() * sizeof(std::uint32_t)};
}

Result<> TableSection::finish(SectionWriter& writer) {
  return send_changed(writer, std::numeric_limits<std::uint64_t>::max());
}

Result<> TableSection::send_changed(SectionWriter& writer, std::uint64_t most_bytes) {
  const std::uint64_t began = writer.written();
  std::uint64_t words = 0;
  for (std::uint32_t block = 0; block < table_.blocks(); ++block) words += table_.words(block);
  PageRun run{};  // grows while changed pages adjoin
  for (; words > 0 && writer.written() - began < most_bytes; --words) {
    std::uint64_t marks = table_.take_changed(next_block_, next_word_);
    while (marks != 0) {
      const auto bit = static_cast<unsigned>(std::countr_zero(marks));
      const auto ones = static_cast<unsigned>(std::countr_one(marks >> bit));
      marks = bit + ones >= kWordPages ? 0 : marks & ~((((std::uint64_t{1} << ones) - 1)) << bit);
      const std::uint64_t first = next_word_ * kWordPages + bit;
      if (run.count != 0 && run.block == next_block_ && run.first + run.count == first &&
          run.count < kWordPages * 64) {
        run.count += ones;
        continue;
      }
      RAMFERRY_TRY(send_run(writer, run));
      run = {.block = next_block_, .first = first, .count = ones};
    }
    if (++next_word_ == table_.words(next_block_)) {
      next_word_ = 0;
      next_block_ = (next_block_ + 1) % static_cast<std::uint32_t>(table_.blocks());
    }
  }
  RAMFERRY_TRY(send_run(writer, run));
  return writer.u8(static_cast<std::uint8_t>(Record::end));
}

Result<> TableSection::send_run(SectionWriter& writer, const PageRun& run) {
  if (run.count == 0) return {};
  buffer_.clear();
  WireWriter wire(buffer_);
  const PageEntry first = table_.get(run.block, run.first);
  bool same = run.count > 1;
  for (std::uint64_t i = 1; i < run.count && same; ++i) same = table_.get(run.block, run.first + i) == first;
  wire.u8(static_cast<std::uint8_t>(same ? Record::same : Record::entries));
  wire.u32(run.block).u64(run.first).u32(static_cast<std::uint32_t>(run.count));
  if (same) wire.u32(pack(first));
  for (std::uint64_t i = 0; i < run.count && !same; ++i) wire.u32(pack(table_.get(run.block, run.first + i)));
  return writer.put(buffer_);
}

Result<> TableSection::load(SectionReader& reader, std::uint32_t version, SectionPart part) {
  if (version != 1) return broken("version " + std::to_string(version) + " is not known, only 1 is");
  if (part == SectionPart::start) RAMFERRY_TRY(load_layout(reader));
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const std::uint8_t type, reader.u8());
    if (type == static_cast<std::uint8_t>(Record::end)) break;
    RAMFERRY_TRY(load_record(reader, type));
  }
  if (part == SectionPart::end) loaded_ = true;
  return {};
}

Result<> TableSection::load_layout(SectionReader& reader) {
  loaded_ = false;
  RAMFERRY_TRY_ASSIGN(const std::uint32_t blocks, reader.u32());
  if (blocks != table_.blocks())
    return broken("it has " + std::to_string(blocks) + " blocks, this VM " + std::to_string(table_.blocks()));
  for (const migration::RamBlock& block : layout_.blocks()) {
    RAMFERRY_TRY_ASSIGN(const std::string name, reader.text8());
    RAMFERRY_TRY_ASSIGN(const std::uint64_t pages, reader.u64());
    if (name != block.name || pages != block.pages())
      return broken("block '" + name + "' of " + std::to_string(pages) + " pages is not this VM's '" +
                    block.name + "' of " + std::to_string(block.pages()));
  }
  table_.clear();
  return {};
}

Result<> TableSection::load_record(SectionReader& reader, std::uint8_t type) {
  if (type > static_cast<std::uint8_t>(Record::same)) return broken("unknown record " + std::to_string(type));
  RAMFERRY_TRY_ASSIGN(const std::uint32_t block, reader.u32());
  RAMFERRY_TRY_ASSIGN(const std::uint64_t first, reader.u64());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t count, reader.u32());
  if (block >= table_.blocks() || first > table_.pages(block) || count > table_.pages(block) - first)
    return broken("a record for pages that this VM does not have");
  // The run is inside our own table, so is the allocation.
  const bool same = type == static_cast<std::uint8_t>(Record::same);
  buffer_.resize(same ? sizeof(std::uint32_t) : count * sizeof(std::uint32_t));
  RAMFERRY_TRY(reader.get(buffer_));
  WireReader entries(buffer_);
  const std::uint64_t pages_each = same ? count : 1;
  for (std::uint64_t done = 0; done < count; done += pages_each) {
    const std::uint32_t entry = entries.u32();
    if (!is_page_entry(entry)) return broken("a page of a kind that does not exist");
    table_.fill(block, first + done, pages_each, unpack(entry));
  }
  return {};
}

}  // namespace ramferry::vm
