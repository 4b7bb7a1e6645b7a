// SPDX-License-Identifier: MIT
#include "stream_saver.hpp"

#include "format.hpp"

#include <ramferry/endpoint.hpp>
#include <ramferry/migration/xbzrle.hpp>

#include <array>

namespace ramferry::checkpoint {
namespace {

constexpr std::size_t kMostPending = 4096;  // pages; as a rule the input's buffer is full before

std::vector<Piece> pages_at(std::uint32_t block, std::span<const std::uint64_t> offsets, ConstBytes content) {
  std::vector<Piece> pieces;
  pieces.reserve(offsets.size());
  for (const std::uint64_t offset : offsets)
    pieces.push_back({block, offset, content.subspan(pieces.size() * kPageBytes, kPageBytes)});
  return pieces;
}

}  // namespace

void SeenPages::set_blocks(std::span<const BlockInfo> blocks) {
  for (const BlockInfo& block : blocks)
    groups_.emplace_back((block.bytes / kPageBytes + kGroup - 1) / kGroup);
}

bool SeenPages::mark(std::uint32_t block, std::uint64_t offset) {
  const std::uint64_t page = offset / kPageBytes;
  const std::lock_guard lock(mutex_);
  auto& group = groups_[block][page / kGroup];
  if (!group) group = std::make_unique<std::bitset<kGroup>>();
  auto bit = (*group)[page % kGroup];
  if (bit) return false;
  bit = true;
  count_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

Result<> StreamSaver::head(ConstBytes bytes, const std::string& machine) {
  configuration_.assign(bytes.begin(), bytes.end());
  machine_ = machine;
  return {};
}

Result<> StreamSaver::ram_begins(std::uint32_t section, std::vector<BlockInfo> blocks) {
  ram_section_ = section;
  if (pages_ != nullptr) RAMFERRY_TRY(pages_->set_blocks(blocks));
  blocks_ = std::move(blocks);
  seen_.set_blocks(blocks_);
  std::uint64_t total = 0;
  for (const BlockInfo& block : blocks_) total += block.bytes;
  ram_bytes_ = total;
  return {};
}

Result<> StreamSaver::beside_ram(ConstBytes frame) {
  if (frame.size() > format::kMostState - beside_.size())
    return fail(errc::unsupported, "more than " + format_size(format::kMostState) + " beside RAM");
  beside_.insert(beside_.end(), frame.begin(), frame.end());
  return {};
}

Result<> StreamSaver::page(std::uint32_t block, std::uint64_t offset, ConstBytes bytes) {
  seen_.mark(block, offset);
  if (pages_ == nullptr) return {};
  pending_.push_back({block, offset, bytes});
  return pending_.size() < kMostPending ? Result<>{} : age();
}

Result<> StreamSaver::age() {
  return writer_ ? writer_->submit(pending_) : Result<>{};
}

Result<> StreamSaver::flush() {
  RAMFERRY_TRY(age());
  return writer_ ? writer_->wait() : Result<>{};
}

void StreamSaver::let_go() noexcept {
  pending_.clear();
  if (writer_) (void)writer_->wait();
}

Result<> StreamSaver::fill(std::uint32_t block, std::uint64_t offset, std::uint8_t value) {
  // A page that comes for the first time is zero already, and not among the pending ones.
  const bool news = !seen_.mark(block, offset) || value != 0;
  if (!news || pages_ == nullptr) return {};
  RAMFERRY_TRY(flush());
  if (value == 0) return pages_->zero(block, offset, kPageBytes);
  std::array<std::byte, kPageBytes> page;
  page.fill(std::byte{value});
  return unpacked(block, offset, page);
}

Result<> StreamSaver::delta(std::uint32_t block, std::uint64_t offset, ConstBytes delta) {
  seen_.mark(block, offset);
  if (pages_ == nullptr) return {};
  RAMFERRY_TRY(flush());
  std::array<std::byte, kPageBytes> page;
  RAMFERRY_TRY(pages_->read(block, offset, page));
  RAMFERRY_TRY(migration::xbzrle_decode(delta, page));
  return unpacked(block, offset, page);
}

Result<> StreamSaver::unpacked(std::uint32_t block, std::uint64_t offset, ConstBytes bytes) {
  seen_.mark(block, offset);
  if (pages_ == nullptr) return {};
  RAMFERRY_TRY(flush());
  const std::array piece = {Piece{block, offset, bytes}};
  return pages_->write(piece);
}

Result<> StreamSaver::channel_pages(std::uint32_t block, std::span<const std::uint64_t> offsets,
                                    ConstBytes content) {
  for (const std::uint64_t offset : offsets) seen_.mark(block, offset);
  return pages_ == nullptr ? Result<>{} : pages_->write(pages_at(block, offsets, content));
}

Result<> StreamSaver::store_ahead(std::uint32_t block, std::span<const std::uint64_t> offsets,
                                  ConstBytes content) {
  return pages_ == nullptr ? Result<>{} : pages_->write(pages_at(block, offsets, content));
}

Result<> StreamSaver::confirm_pages(std::uint32_t block, std::span<const std::uint64_t> offsets,
                                    ConstBytes content) {
  for (const std::uint64_t offset : offsets) seen_.mark(block, offset);
  return pages_ == nullptr ? Result<>{} : pages_->confirm(pages_at(block, offsets, content));
}

Result<> StreamSaver::channel_zeros(std::uint32_t block, std::span<const std::uint64_t> offsets) {
  for (const std::uint64_t offset : offsets) {
    if (seen_.mark(block, offset) || pages_ == nullptr) continue;
    RAMFERRY_TRY(pages_->zero(block, offset, kPageBytes));
  }
  return {};
}

Result<> StreamSaver::check_complete() const {
  const std::uint64_t missing = ram_bytes() / kPageBytes - seen_.count();
  if (missing == 0) return {};
  return fail(
      errc::protocol_mismatch,
      std::to_string(missing) + " of " + std::to_string(ram_bytes() / kPageBytes) +
          " pages of RAM never came",
      "if the source has multifd on, add the option channels=N to the address; switch off its balloon's "
      "free-page hinting");
}

}  // namespace ramferry::checkpoint
