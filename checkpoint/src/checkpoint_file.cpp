// SPDX-License-Identifier: MIT
#include "file_io.hpp"
#include "format.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <limits>

namespace ramferry::checkpoint {
namespace {

constexpr std::size_t kMostBlocks = 16384;
constexpr std::size_t kMostPieces = 512;  // of one preadv

constexpr const char* kCutOff = "it was cut off or added to: copy it again, or use another checkpoint";

Failure damaged(std::string what) {
  return fail(errc::protocol_mismatch, "its metadata: " + std::move(what),
              "the file is damaged; use another checkpoint");
}

bool is_known(Origin origin) {
  return origin == Origin::qemu || origin == Origin::native;
}

std::vector<std::byte> copied(ConstBytes bytes) {
  return {bytes.begin(), bytes.end()};
}

}  // namespace

Result<bool> CheckpointFile::is_checkpoint(const std::filesystem::path& path) {
  RAMFERRY_TRY_ASSIGN(const OpenFile file, open_to_read(path));
  std::array<std::byte, format::kMagic.size()> magic{};
  if (::pread(file.fd.get(), magic.data(), magic.size(), 0) < 0)
    return fail_errno(errno, "reading " + path.string());
  return std::equal(magic.begin(), magic.end(), as_bytes(format::kMagic).begin());
}

/// Nothing is read yet.
Result<CheckpointFile> CheckpointFile::opened(const std::filesystem::path& path) {
  CheckpointFile file;
  file.name_ = path.string();
  RAMFERRY_TRY_ASSIGN(OpenFile input, open_to_read(path));
  file.fd_ = std::move(input.fd);
  file.file_bytes_ = input.bytes;
  return file;
}

Result<Origin> CheckpointFile::origin_of(const std::filesystem::path& path) {
  RAMFERRY_TRY_ASSIGN(CheckpointFile file, opened(path));
  const auto read = [&]() -> Result<Origin> {
    RAMFERRY_TRY_ASSIGN(const format::Outline outline, file.read_outline());
    std::array<std::byte, 1> first{};
    RAMFERRY_TRY(read_at(file.fd_.get(), outline.metadata_at(), Bytes(first), file.name_));
    const auto origin = static_cast<Origin>(first[0]);
    if (!is_known(origin)) return damaged("an unknown origin");
    return origin;
  };
  auto origin = read();
  if (!origin) return within(std::move(origin).error(), "opening checkpoint " + file.name_);
  return origin;
}

Result<CheckpointFile> CheckpointFile::open(const std::filesystem::path& path) {
  RAMFERRY_TRY_ASSIGN(CheckpointFile file, opened(path));
  if (auto read = file.read_head(); !read)
    return within(std::move(read).error(), "opening checkpoint " + file.name_);
  return file;
}

std::uint64_t CheckpointFile::ram_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const BlockInfo& block : head_.blocks) total += block.bytes;
  return total;
}

Result<format::Outline> CheckpointFile::read_outline() const {
  if (file_bytes_ < format::kHeadBytes)
    return fail(errc::protocol_mismatch, "its " + std::to_string(file_bytes_) + " bytes are no whole head",
                kCutOff);
  std::array<std::byte, format::kHeadBytes> head;
  RAMFERRY_TRY(read_at(fd_.get(), 0, Bytes(head), name_));
  RAMFERRY_TRY_ASSIGN(const format::Outline outline, format::decode_outline(head));
  if (outline.metadata_at() > file_bytes_ || outline.metadata_bytes != file_bytes_ - outline.metadata_at())
    return fail(errc::protocol_mismatch,
                "it has " + std::to_string(file_bytes_) + " bytes, its head speaks of " +
                    std::to_string(outline.metadata_at() + outline.metadata_bytes),
                kCutOff);
  return outline;
}

Result<> CheckpointFile::read_head() {
  RAMFERRY_TRY_ASSIGN(const format::Outline outline, read_outline());
  slots_ = outline.slots;
  std::vector<std::byte> metadata(outline.metadata_bytes);
  RAMFERRY_TRY(read_at(fd_.get(), outline.metadata_at(), Bytes(metadata), name_));
  if (checksum(metadata) != outline.metadata_sum) return damaged("the checksum is wrong");
  return parse(metadata);
}

Result<> CheckpointFile::parse(ConstBytes metadata) {
  WireReader in(metadata);
  const std::uint8_t origin = in.u8();
  const ConstBytes session = in.raw(head_.session.value.size());
  std::copy(session.begin(), session.end(), head_.session.value.begin());
  head_.taken = static_cast<std::int64_t>(in.u64());
  head_.machine = in.text16();
  head_.configuration = copied(in.raw(in.u32()));
  head_.ram_section = in.u32();
  const std::uint64_t beside = in.u64();
  if (beside > in.left()) return damaged("it is too short for the sections beside RAM");
  head_.beside = copied(in.raw(beside));
  const std::uint64_t state = in.u64();
  if (state > in.left()) return damaged("it is too short for the device state");
  head_.state = copied(in.raw(state));
  head_.description_at = in.u64();
  head_.description_length = in.u64();
  const std::uint32_t blocks = in.u32();
  head_.origin = static_cast<Origin>(origin);
  if (!is_known(head_.origin)) return damaged("an unknown origin");
  if (head_.description_at > state || head_.description_length > state - head_.description_at)
    return damaged("the description lies outside the device state");
  if (blocks > kMostBlocks) return damaged("too many RAM blocks");
  for (std::uint32_t i = 0; in.ok() && i < blocks; ++i) {
    std::string name = in.text8();
    head_.blocks.push_back({std::move(name), in.u64()});
  }

  for (std::uint32_t block = 0; in.ok() && block < head_.blocks.size(); ++block) {
    const std::uint64_t pages = head_.blocks[block].bytes / kPageBytes;
    const std::uint32_t count = in.u32();
    if (count > in.left() / 12) return damaged("it is too short for its index");
    std::size_t sums = sums_.size();
    std::uint64_t next = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t first = in.u32(), length = in.u32(), slot = in.u32();
      const bool sane = first >= next && first <= pages && length != 0 && length <= pages - first &&
                        slot != 0 && slot <= slots_ && length <= slots_ - slot + 1;
      if (!sane) return damaged("a run of block '" + head_.blocks[block].name + "' lies outside");
      runs_.push_back({block, first, length, slot * kPageBytes, sums});
      next = first + length;
      sums += length;
    }
    if (sums - sums_.size() > in.left() / 8) return damaged("it is too short for its checksums");
    sums_.reserve(sums);
    while (sums_.size() < sums) sums_.push_back(in.u64());
  }
  if (!in.finish("the checkpoint's metadata")) return damaged("its parts do not fill it");
  return {};
}

Result<> CheckpointFile::read(const StoredRun& run, std::uint64_t skip, std::span<const Bytes> into) const {
  assert(skip + into.size() <= run.count);
  std::vector<PageRead> pages;
  pages.reserve(into.size());
  for (const Bytes& each : into) pages.push_back({&run, skip + pages.size(), each});
  return read(pages);
}

Result<> CheckpointFile::read(std::span<const PageRead> pages) const {
  const auto place = [](const PageRead& page) { return page.run->at + page.index * kPageBytes; };
  std::array<iovec, kMostPieces> pieces;
  for (auto rest = pages; !rest.empty();) {
    std::size_t count = 0;
    const std::uint64_t at = place(rest.front());
    while (count < std::min(rest.size(), pieces.size()) && place(rest[count]) == at + count * kPageBytes) {
      pieces[count] = {rest[count].into.data(), kPageBytes};
      ++count;
    }
    RAMFERRY_TRY(read_at(fd_.get(), at, std::span(pieces).first(count), name_));
    rest = rest.subspan(count);
  }
  for (const PageRead& page : pages) {
    if (checksum(page.into.first(kPageBytes)) == sums_[page.run->sums + page.index]) continue;
    return fail(errc::protocol_mismatch,
                "reading " + name_ + ": page " + std::to_string(page.run->first + page.index) +
                    " of RAM block '" + head_.blocks[page.run->block].name + "' is not what was saved",
                "the disk has damaged the file; use another checkpoint");
  }
  return {};
}

Result<> CheckpointFile::verify() const {
  std::vector<std::byte> memory(kMostPieces * kPageBytes);
  std::vector<Bytes> pages;
  for (std::size_t i = 0; i < kMostPieces; ++i)
    pages.push_back(Bytes(memory).subspan(i * kPageBytes, kPageBytes));
  for (const StoredRun& run : runs_) {
    for (std::uint64_t skip = 0; skip < run.count; skip += kMostPieces)
      RAMFERRY_TRY(
          read(run, skip, std::span(pages).first(std::min<std::uint64_t>(kMostPieces, run.count - skip))));
  }
  return {};
}

}  // namespace ramferry::checkpoint
