// SPDX-License-Identifier: MIT
#include "savevm_parser.hpp"

#include <ramferry/migration/ram_wire.hpp>
#include <ramferry/migration/savevm.hpp>

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace ramferry::checkpoint {
namespace {

namespace ram_wire = migration::ram_wire;
using migration::savevm::Mark;

constexpr std::uint32_t kMostMachineName = 256, kMostCapabilities = 256, kMostCommandData = 4096;
constexpr std::size_t kMostBlocks = 16384;
constexpr std::uint32_t kRamVersion = 4;
constexpr std::uint8_t kDeltaEncoding = 1;
constexpr std::string_view kTable = "ramferry/table";  // of the reference VM: the one live section we know
constexpr std::uint32_t kTableVersion = 1, kMostTableEntries = 1U << 16;
constexpr std::size_t kStreamPiece = 1U << 20;
constexpr std::uint32_t kMostCompressed = 2 * kPageBytes;

std::string hex(std::uint64_t value) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

Failure malformed(const std::string& what) {
  return fail(errc::protocol_mismatch, what);
}

/// What a command says, for the error that names it.
std::string command_name(std::uint16_t id) {
  constexpr std::array kNames = {"invalid",         "open return path", "ping",           "postcopy advise",
                                 "postcopy listen", "postcopy run",     "discard",        "packaged",
                                 "enable COLO",     "postcopy resume",  "receive bitmap", "switchover start"};
  return id < kNames.size() ? kNames[id] : "number " + std::to_string(id);
}

}  // namespace

Result<> StreamEvents::hook() {
  return fail(errc::unsupported, "the source sends its RAM past the stream");
}

SavevmParser::SavevmParser(StreamInput& in, StreamEvents& events, RamBody body)
    : in_(in), events_(events), body_(body) {
  in_.before_refill([this] { return events_.age(); });
}

Result<> SavevmParser::read_ram() {
  if (!head_read_) RAMFERRY_TRY(read_head());
  for (;;) {
    const std::uint64_t at = in_.consumed();
    RAMFERRY_TRY_ASSIGN(const std::uint8_t mark, in_.u8());
    switch (static_cast<Mark>(mark)) {
      case Mark::command: RAMFERRY_TRY(command()); break;
      case Mark::start:
      case Mark::full:
        if (auto read = start(); !read)
          return within(std::move(read).error(), "reading the migration stream");
        if (static_cast<Mark>(mark) == Mark::full) return malformed("the RAM section is not live");
        break;
      case Mark::part:
      case Mark::end: {
        const bool last = static_cast<Mark>(mark) == Mark::end;
        if (auto read = more(last); !read)
          return within(std::move(read).error(), "reading RAM from the migration stream");
        if (ram_ended_) return events_.flush();
        break;
      }
      case Mark::eof: return malformed("reading the migration stream: it ends without RAM");
      default:
        return malformed("reading the migration stream: unknown section type " + hex(mark) + " at byte " +
                         std::to_string(at));
    }
  }
}

Result<> SavevmParser::read_head() {
  std::vector<std::byte> raw;
  WireWriter copy(raw);
  std::string machine;
  const auto reading = [&]() -> Result<> {
    RAMFERRY_TRY_ASSIGN(const std::uint32_t magic, in_.u32());
    if (magic != migration::savevm::kMagic)
      return fail(errc::protocol_mismatch, "it begins with " + hex(magic) + ", not with 'QEVM'",
                  "it is no migration stream: let a QEMU or a ramferry VM migrate to this address");
    RAMFERRY_TRY_ASSIGN(const std::uint32_t version, in_.u32());
    if (version != migration::savevm::kVersion)
      return fail(errc::unsupported, "savevm version " + std::to_string(version),
                  "version 3 is the only one known");
    RAMFERRY_TRY_ASSIGN(const std::uint8_t mark, in_.u8());
    if (mark != static_cast<std::uint8_t>(Mark::configuration)) return malformed("it has no configuration");
    RAMFERRY_TRY_ASSIGN(const std::uint32_t length, in_.u32());
    if (length == 0 || length > kMostMachineName)
      return malformed("a machine name of " + std::to_string(length) + " bytes");
    RAMFERRY_TRY_ASSIGN(const ConstBytes name, in_.view(length));
    machine.assign(reinterpret_cast<const char*>(name.data()), name.size());
    copy.u32(magic).u32(version).u8(mark).u32(length).raw(name);
    for (;;) {
      RAMFERRY_TRY_ASSIGN(const auto next, in_.peek());
      if (next != static_cast<std::uint8_t>(Mark::subsection)) return {};
      RAMFERRY_TRY(configuration_subsection(raw));
    }
  };
  if (auto read = reading(); !read)
    return within(std::move(read).error(), "reading the head of the migration stream");
  head_read_ = true;
  return events_.head(raw, machine);
}

Result<> SavevmParser::configuration_subsection(std::vector<std::byte>& raw) {
  WireWriter copy(raw);
  RAMFERRY_TRY_ASSIGN(const std::uint8_t mark, in_.u8());
  RAMFERRY_TRY_ASSIGN(const std::string name, in_.text8());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t version, in_.u32());
  copy.u8(mark).text8(name).u32(version);
  if (name == "configuration/target-page-bits" || name == "configuration/uuid") {
    RAMFERRY_TRY_ASSIGN(const ConstBytes data, in_.view(name == "configuration/uuid" ? 16 : 4));
    copy.raw(data);
    return {};
  }
  if (name != "configuration/capabilities") return fail(errc::unsupported, "subsection '" + name + "'");
  RAMFERRY_TRY_ASSIGN(const std::uint32_t count, in_.u32());
  if (count > kMostCapabilities) return malformed(std::to_string(count) + " capabilities");
  copy.u32(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    RAMFERRY_TRY_ASSIGN(const std::string capability, in_.text8());
    if (capability == "x-ignore-shared" || capability == "mapped-ram")
      return fail(errc::unsupported, "a stream written with capability '" + capability + "'",
                  "switch it off at the source");
    copy.text8(capability);
  }
  return {};
}

Result<> SavevmParser::command() {
  enum : std::uint16_t { open_return_path = 1, ping = 2, switchover_start = 11 };
  RAMFERRY_TRY_ASSIGN(const std::uint16_t id, in_.u16());
  RAMFERRY_TRY_ASSIGN(const std::uint16_t length, in_.u16());
  const bool known = (id == open_return_path && length == 0) || (id == ping && length == 4) ||
                     (id == switchover_start && length == 0);
  if (!known || length > kMostCommandData)
    return fail(errc::unsupported,
                "reading the migration stream: the command '" + command_name(id) + "' (" +
                    std::to_string(length) + " bytes)",
                "switch off the source's capabilities for postcopy, dirty bitmaps and COLO");
  RAMFERRY_TRY_ASSIGN(const ConstBytes data, in_.view(length));
  return events_.command(id, data);
}

Result<> SavevmParser::start() {
  RAMFERRY_TRY_ASSIGN(const std::uint32_t number, in_.u32());
  RAMFERRY_TRY_ASSIGN(const std::string name, in_.text8());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t instance, in_.u32());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t version, in_.u32());
  if (name == kTable && instance == 0 && version == kTableVersion && !table_) {
    table_ = number;
    return table_part(static_cast<std::uint8_t>(Mark::start), true);
  }
  if (name != "ram")
    return fail(errc::unsupported,
                "section '" + name + "' instance " + std::to_string(instance) +
                    " comes beside RAM, and only its device could read it",
                "remove that device, or switch off what it belongs to (block migration, dirty bitmaps)");
  if (ram_) return malformed("a second RAM section");
  if (version != kRamVersion)
    return fail(errc::unsupported, "version " + std::to_string(version) + " of the RAM section",
                "version 4 is the only one known");
  ram_ = number;
  RAMFERRY_TRY(block_list());
  RAMFERRY_TRY(events_.ram_begins(number, blocks_));
  RAMFERRY_TRY(records());
  RAMFERRY_TRY(events_.ram_begun());
  return footer(*ram_);
}

Result<> SavevmParser::more(bool last) {
  RAMFERRY_TRY_ASSIGN(const std::uint32_t number, in_.u32());
  if (number == table_) return table_part(static_cast<std::uint8_t>(last ? Mark::end : Mark::part), false);
  if (number != ram_)
    return malformed("a part of section number " + std::to_string(number) + ", which is not RAM");
  ++counts_.parts;
  ram_ended_ = last;
  if (last) RAMFERRY_TRY(events_.flush());
  if (last) RAMFERRY_TRY(events_.last_part());
  RAMFERRY_TRY(body_ == RamBody::placed ? placed_part() : records());
  return footer(*ram_);
}

Result<> SavevmParser::footer(std::uint32_t section) {
  RAMFERRY_TRY_ASSIGN(const std::uint8_t mark, in_.u8());
  RAMFERRY_TRY_ASSIGN(const std::uint32_t number, in_.u32());
  if (mark != static_cast<std::uint8_t>(Mark::footer) || number != section)
    return malformed(hex(mark) + " where its footer should be, at byte " +
                     std::to_string(in_.consumed() - 5));
  return {};
}

/// The reference VM's page table: kept as it comes. The head of its START has been read.
Result<> SavevmParser::table_part(std::uint8_t mark, bool first) {
  std::vector<std::byte> frame;
  WireWriter copy(frame);
  copy.u8(mark).u32(*table_);
  if (first) {
    copy.text8(kTable).u32(0).u32(kTableVersion);
    RAMFERRY_TRY_ASSIGN(const std::uint32_t blocks, in_.u32());
    if (blocks > kMostBlocks) return malformed("a page table of " + std::to_string(blocks) + " blocks");
    copy.u32(blocks);
    for (std::uint32_t i = 0; i < blocks; ++i) {
      RAMFERRY_TRY_ASSIGN(const std::string name, in_.text8());
      RAMFERRY_TRY_ASSIGN(const std::uint64_t pages, in_.u64());
      copy.text8(name).u64(pages);
    }
  }
  enum : std::uint8_t { end = 0, entries = 1, same = 2 };
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const std::uint8_t type, in_.u8());
    copy.u8(type);
    if (type == end) break;
    if (type > same) return malformed("record " + std::to_string(type) + " of the page table");
    RAMFERRY_TRY_ASSIGN(const std::uint32_t block, in_.u32());
    RAMFERRY_TRY_ASSIGN(const std::uint64_t page, in_.u64());
    RAMFERRY_TRY_ASSIGN(const std::uint32_t count, in_.u32());
    if (count > kMostTableEntries)
      return malformed("a page table record of " + std::to_string(count) + " entries");
    copy.u32(block).u64(page).u32(count);
    for (std::uint32_t i = 0; i < (type == same ? 1 : count); ++i) {
      RAMFERRY_TRY_ASSIGN(const std::uint32_t entry, in_.u32());
      copy.u32(entry);
    }
    if (frame.size() > kStreamPiece) {
      RAMFERRY_TRY(events_.beside_ram(frame));
      frame.clear();
    }
  }
  copy.u8(static_cast<std::uint8_t>(Mark::footer)).u32(*table_);
  RAMFERRY_TRY(footer(*table_));
  return events_.beside_ram(frame);
}

Result<> SavevmParser::block_list() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t word, in_.u64());
  if ((word & ram_wire::kFlagMask) != ram_wire::kMemSize)
    return malformed("it does not begin with the list of RAM blocks");
  std::uint64_t left = word & ~ram_wire::kFlagMask;
  while (left != 0) {
    RAMFERRY_TRY_ASSIGN(std::string name, in_.text8());
    RAMFERRY_TRY_ASSIGN(const std::uint64_t bytes, in_.u64());
    if (bytes > left || blocks_.size() >= kMostBlocks)
      return malformed("the list of RAM blocks is longer than its total, at '" + name + "'");
    if (bytes % kPageBytes != 0)
      return fail(errc::unsupported, "RAM block '" + name + "' has " + std::to_string(bytes) +
                                         " bytes, which is no multiple of 4096");
    left -= bytes;
    blocks_.push_back({std::move(name), bytes});
  }
  return {};
}

Result<> SavevmParser::placed_part() {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t epoch, in_.u64());
  if (epoch <= epoch_)
    return malformed("fence " + std::to_string(epoch) + " after fence " + std::to_string(epoch_));
  epoch_ = epoch;
  RAMFERRY_TRY_ASSIGN(const std::uint64_t word, in_.u64());
  if (word != ram_wire::kEnd)
    return malformed("the record " + hex(word) + " in a part whose pages were placed");
  return {};
}

Result<> SavevmParser::records() {
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const std::uint64_t word, in_.u64());
    if ((word & ram_wire::kFlagMask & ~ram_wire::kContinue) == ram_wire::kMultifdFlush) {
      RAMFERRY_TRY(flush_mark(word));
    } else if (word != ram_wire::kEnd) {
      RAMFERRY_TRY(record(word));
    } else {
      started_ = true;
      return body_ == RamBody::multifd && !says_where_ ? events_.sync() : Result<>{};
    }
  }
}

/// A source that says where to sync does so in the section's START already.
Result<> SavevmParser::flush_mark(std::uint64_t word) {
  if (body_ != RamBody::multifd)
    return fail(errc::unsupported, "the source's multifd",
                "add the option channels=N to the address, or switch the source's multifd off");
  if (word != ram_wire::kMultifdFlush || (started_ && !says_where_))
    return malformed("the record " + hex(word) + ", which is not where the channels sync");
  says_where_ = true;
  return events_.sync();
}

Result<> SavevmParser::record(std::uint64_t word) {
  const std::uint64_t kind = word & ram_wire::kFlagMask & ~ram_wire::kContinue,
                      offset = word & ~ram_wire::kFlagMask;
  if (word == ram_wire::kHook) return events_.hook();
  if (kind != ram_wire::kPage && kind != ram_wire::kZero && kind != ram_wire::kXbzrle &&
      kind != ram_wire::kCompress)
    return malformed("the record " + hex(word) + " at byte " + std::to_string(in_.consumed() - 8));
  RAMFERRY_TRY(find_block((word & ram_wire::kContinue) != 0));
  const BlockInfo& block = blocks_[*block_];
  if (offset >= block.bytes)
    return malformed("a page at " + hex(offset) + " of block '" + block.name + "', which has " +
                     std::to_string(block.bytes) + " bytes");
  if (body_ == RamBody::multifd && (kind == ram_wire::kXbzrle || kind == ram_wire::kCompress))
    return fail(errc::unsupported, "multifd together with xbzrle or compress",
                "switch these off at the source");
  if (kind == ram_wire::kXbzrle) return delta_record(offset);
  if (kind == ram_wire::kCompress) return compressed_record(offset);
  if (kind == ram_wire::kZero) {
    RAMFERRY_TRY_ASSIGN(const std::uint8_t value, in_.u8());
    ++counts_.zero;
    return events_.fill(*block_, offset, value);
  }
  RAMFERRY_TRY_ASSIGN(const ConstBytes bytes, in_.view(kPageBytes));
  ++counts_.page;
  return events_.page(*block_, offset, bytes);
}

Result<> SavevmParser::find_block(bool same) {
  if (same) {
    if (!block_) return malformed("a page that continues no block");
    return {};
  }
  RAMFERRY_TRY_ASSIGN(const std::string name, in_.text8());
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(), [&](const BlockInfo& each) { return each.name == name; });
  if (found == blocks_.end()) return malformed("a page of the unknown RAM block '" + name + "'");
  block_ = static_cast<std::uint32_t>(found - blocks_.begin());
  return {};
}

Result<> SavevmParser::delta_record(std::uint64_t offset) {
  RAMFERRY_TRY_ASSIGN(const std::uint8_t encoding, in_.u8());
  RAMFERRY_TRY_ASSIGN(const std::uint16_t length, in_.u16());
  if (encoding != kDeltaEncoding || length > kPageBytes)
    return malformed("a delta of " + std::to_string(length) + " bytes with encoding " +
                     std::to_string(encoding));
  RAMFERRY_TRY_ASSIGN(const ConstBytes delta, in_.view(length));
  ++counts_.delta;
  return events_.delta(*block_, offset, delta);
}

Result<> SavevmParser::compressed_record(std::uint64_t offset) {
  RAMFERRY_TRY_ASSIGN(const std::uint32_t length, in_.u32());
  if (length == 0 || length > kMostCompressed)
    return malformed("a compressed page of " + std::to_string(length) + " bytes");
  RAMFERRY_TRY_ASSIGN(const ConstBytes packed, in_.view(length));
  std::array<std::byte, kPageBytes> page;
  uLongf got = page.size();
  const int status = ::uncompress(reinterpret_cast<Bytef*>(page.data()), &got,
                                  reinterpret_cast<const Bytef*>(packed.data()), length);
  if (status != Z_OK || got != page.size()) return malformed("a compressed page that does not decompress");
  ++counts_.compressed;
  return events_.unpacked(*block_, offset, page);
}

}  // namespace ramferry::checkpoint
