// SPDX-License-Identifier: MIT
#include "vm/disk_section.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace ramferry::vm {
namespace {

using migration::Pending;
using migration::SectionPart;
using migration::SectionReader;
using migration::SectionWriter;

enum class Record : std::uint8_t { end = 0, content = 1, zeros = 2 };

Failure broken(const std::string& what) {
  return fail(errc::protocol_mismatch, "loading the disk: " + what);
}

bool all_zero(ConstBytes bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

Result<> DiskSection::begin(SectionWriter& writer) {
  mode_ = ask_();
  if (mode_.incremental && !disk_.has_base())
    return fail(errc::invalid_argument, "moving only what differs from a base, of a disk that has none",
                "give the VM --disk-base, at both ends");
  disk_.mark_all();
  sent_.assign(disk_.chunks(), false);
  buffer_.resize(kDiskChunk);
  base_buffer_.resize(mode_.incremental ? kDiskChunk : 0);
  next_ = transferred_ = 0;
  sending_ = true;
  std::uint64_t hash = 0;
  if (mode_.incremental) {
    RAMFERRY_TRY_ASSIGN(hash, disk_.base_hash());
  }
  RAMFERRY_TRY(writer.u64(disk_.bytes()));
  RAMFERRY_TRY(writer.u8(mode_.incremental ? 1 : 0));
  RAMFERRY_TRY(writer.u64(hash));
  return writer.u8(static_cast<std::uint8_t>(Record::end));
}

Result<Pending> DiskSection::iterate(SectionWriter& writer, const migration::Budget& budget) {
  RAMFERRY_TRY(send_marked(writer, budget.bytes, budget.until));
  return pending(false);
}

Result<Pending> DiskSection::pending(bool /*exact*/) {
  return Pending{.bytes = disk_.marked() * kDiskChunk};
}

Result<> DiskSection::finish(SectionWriter& writer) {
  return send_marked(writer, std::numeric_limits<std::uint64_t>::max(), Deadline::never());
}

Result<> DiskSection::send_marked(SectionWriter& writer, std::uint64_t most_bytes, Deadline until) {
  const std::uint64_t began = writer.written();
  for (std::uint64_t looked = 0; looked < disk_.chunks(); ++looked) {
    if (writer.written() - began >= most_bytes || until.passed()) break;
    const std::uint64_t chunk = next_;
    next_ = (next_ + 1) % disk_.chunks();
    if (disk_.take_mark(chunk)) RAMFERRY_TRY(send_chunk(writer, chunk));
  }
  return writer.u8(static_cast<std::uint8_t>(Record::end));
}

Result<bool> DiskSection::is_base(std::uint64_t chunk, ConstBytes content) {
  const Bytes base = Bytes(base_buffer_).first(content.size());
  RAMFERRY_TRY(disk_.read_base(chunk * kDiskChunk, base));
  return std::equal(content.begin(), content.end(), base.begin());
}

Result<> DiskSection::send_chunk(SectionWriter& writer, std::uint64_t chunk) {
  const Bytes content = Bytes(buffer_).first(disk_.chunk_bytes(chunk));
  RAMFERRY_TRY(disk_.read(chunk * kDiskChunk, content));
  // What was never sent is the base's at the destination.
  if (mode_.incremental && !sent_[chunk]) {
    RAMFERRY_TRY_ASSIGN(const bool same, is_base(chunk, content));
    if (same) return {};
  }
  sent_[chunk] = true;
  const bool zeros = mode_.detect_zeros && all_zero(content);
  RAMFERRY_TRY(writer.u8(static_cast<std::uint8_t>(zeros ? Record::zeros : Record::content)));
  RAMFERRY_TRY(writer.u64(chunk));
  if (zeros) return {};
  transferred_ += content.size();
  return writer.put(content);
}

void DiskSection::report(migration::Progress& into) const {
  if (!sending_) return;
  into.disk = migration::DiskCounts{.transferred = transferred_,
                                    .remaining = std::min(disk_.marked() * kDiskChunk, disk_.bytes()),
                                    .total = disk_.bytes()};
}

Result<> DiskSection::load(SectionReader& reader, std::uint32_t version, SectionPart part) {
  if (version != 1) return broken("version " + std::to_string(version) + " is not known, only 1 is");
  if (part == SectionPart::start) RAMFERRY_TRY(load_start(reader));
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const std::uint8_t record, reader.u8());
    if (record == static_cast<std::uint8_t>(Record::end)) return {};
    RAMFERRY_TRY(load_chunk(reader, record));
  }
}

Result<> DiskSection::load_start(SectionReader& reader) {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t bytes, reader.u64());
  RAMFERRY_TRY_ASSIGN(const std::uint8_t incremental, reader.u8());
  RAMFERRY_TRY_ASSIGN(const std::uint64_t hash, reader.u64());
  if (bytes != disk_.bytes())
    return fail(
        errc::invalid_argument,
        "loading a disk of " + std::to_string(bytes) + " bytes into one of " + std::to_string(disk_.bytes()),
        "start the destination with an image of the same size");
  buffer_.resize(kDiskChunk);
  if (incremental == 0) return {};
  if (!disk_.has_base())
    return fail(errc::invalid_argument, "loading what differs from a base, which this VM does not have",
                "start the destination with --disk-base");
  RAMFERRY_TRY_ASSIGN(const std::uint64_t ours, disk_.base_hash());
  if (hash != ours)
    return fail(errc::invalid_argument, "loading what differs from a base: the source's base is another one");
  for (std::uint64_t chunk = 0; chunk < disk_.chunks(); ++chunk) {
    const Bytes content = Bytes(buffer_).first(disk_.chunk_bytes(chunk));
    RAMFERRY_TRY(disk_.read_base(chunk * kDiskChunk, content));
    RAMFERRY_TRY(disk_.write(chunk * kDiskChunk, content));
  }
  return {};
}

Result<> DiskSection::load_chunk(SectionReader& reader, std::uint8_t record) {
  if (record > static_cast<std::uint8_t>(Record::zeros))
    return broken("unknown record " + std::to_string(record));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t chunk, reader.u64());
  if (buffer_.empty() || chunk >= disk_.chunks()) return broken("a chunk that this disk does not have");
  const Bytes content = Bytes(buffer_).first(disk_.chunk_bytes(chunk));
  if (record == static_cast<std::uint8_t>(Record::zeros)) {
    std::fill(content.begin(), content.end(), std::byte{0});
  } else {
    RAMFERRY_TRY(reader.get(content));
  }
  return disk_.write(chunk * kDiskChunk, content);
}

}  // namespace ramferry::vm
