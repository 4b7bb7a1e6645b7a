// SPDX-License-Identifier: MIT
#include "guest_landing.hpp"
#include "page_codec.hpp"

#include <ramferry/migration/page_sink.hpp>
#include <ramferry/migration/ram_wire.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

namespace ramferry::migration {
namespace {

std::string hex(std::uint64_t value) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

Failure unknown_word(std::uint64_t word) {
  return fail(errc::unsupported, "the record " + hex(word) + " of the RAM section",
              "switch off the source's multifd and postcopy capabilities");
}

Result<> read_end(SectionReader& in) {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t word, in.u64());
  if (word != ram_wire::kEnd) return unknown_word(word);
  return {};
}

class NativeSource final : public PageSource {
 public:
  NativeSource(Landings landings, SlotLink& link) : landings_(landings), link_(link) {}

  Result<> load(SectionReader& in, SectionPart part) override {
    if (part == SectionPart::start) return start(in);
    RAMFERRY_TRY_ASSIGN(const Epoch epoch, in.u64());
    if (epoch <= last_)
      return fail(errc::protocol_mismatch,
                  "fence " + std::to_string(epoch) + " after fence " + std::to_string(last_));
    last_ = epoch;
    return read_end(in);
  }

 private:
  Result<> start(SectionReader& in) {
    RAMFERRY_TRY(read_end(in));
    for (std::uint32_t block = 0; block < landings_.size(); ++block)
      RAMFERRY_TRY(link_.channel().expose(SlotId{block}, *landings_[block]));
    return link_.slots_ready();
  }

  Landings landings_;
  SlotLink& link_;
  Epoch last_ = 0;
};

class InlineSource final : public PageSource {
 public:
  InlineSource(const RamLayout& layout, Landings landings, Decompressors& decompressors)
      : layout_(layout), landings_(landings), decompressors_(decompressors) {}

  Result<> load(SectionReader& in, SectionPart part) override {
    if (part == SectionPart::start) return read_end(in);
    for (;;) {
      RAMFERRY_TRY_ASSIGN(const std::uint64_t word, in.u64());
      if (word == ram_wire::kEnd) return decompress_waiting();
      RAMFERRY_TRY(record(in, word));
    }
  }

 private:
  Result<> record(SectionReader& in, std::uint64_t word) {
    const std::uint64_t kind = word & ram_wire::kFlagMask & ~ram_wire::kContinue;
    if (kind != ram_wire::kPage && kind != ram_wire::kZero && kind != ram_wire::kXbzrle &&
        kind != ram_wire::kCompress)
      return unknown_word(word);
    RAMFERRY_TRY(find_block(in, (word & ram_wire::kContinue) != 0));
    const RamBlock& block = layout_[*block_];
    const std::uint64_t offset = word & ~ram_wire::kFlagMask;
    if (offset % block.page_bytes != 0 || offset >= block.host.size())
      return fail(errc::protocol_mismatch, "a page at " + hex(offset) + " of block '" + block.name +
                                               "', which has " + std::to_string(block.host.size()) +
                                               " bytes");
    if (kind == ram_wire::kCompress) return compressed(in, offset, block.page_bytes);
    RAMFERRY_TRY(decompress_waiting());  // it may be of the same page
    if (kind == ram_wire::kXbzrle) return changes(in, offset, block.page_bytes);
    return kind == ram_wire::kPage ? page(in, offset, block.page_bytes) : fill(in, offset, block.page_bytes);
  }

  Result<> changes(SectionReader& in, std::uint64_t offset, std::uint64_t page_bytes) {
    RAMFERRY_TRY_ASSIGN(const std::uint8_t encoding, in.u8());
    RAMFERRY_TRY_ASSIGN(const std::uint16_t length, in.u16());
    if (encoding != 1 || length > page_bytes)
      return fail(errc::protocol_mismatch,
                  "changes of " + std::to_string(length) + " bytes, encoding " + std::to_string(encoding));
    buffer_.resize(length);
    RAMFERRY_TRY(in.get(buffer_));
    return landings_[*block_]->store(offset, page_bytes, page_codec::kXbzrle, buffer_);
  }

  Result<> compressed(SectionReader& in, std::uint64_t offset, std::uint64_t page_bytes) {
    RAMFERRY_TRY_ASSIGN(const std::uint32_t length, in.u32());
    // A stream that cannot be shortened grows, a little.
    if (length > 2 * page_bytes)
      return fail(errc::protocol_mismatch, "a compressed page of " + std::to_string(length) + " bytes");
    const auto same = [&](const Waiting& each) { return each.block == *block_ && each.offset == offset; };
    if (waiting_.size() == kMostWaiting || std::any_of(waiting_.begin(), waiting_.end(), same))
      RAMFERRY_TRY(decompress_waiting());
    Waiting page{.block = *block_, .offset = offset, .page_bytes = page_bytes, .bytes = {}};
    page.bytes.resize(length);
    RAMFERRY_TRY(in.get(page.bytes));
    waiting_.push_back(std::move(page));
    return {};
  }

  Result<> decompress_waiting() {
    if (waiting_.empty()) return {};
    std::vector<Result<>> results(waiting_.size());
    decompressors_.pool().run(waiting_.size(), [&](std::size_t i) {
      const Waiting& page = waiting_[i];
      GuestLanding& landing = *landings_[page.block];
      landing.note_written(page.offset, page.page_bytes);
      results[i] =
          page_codec::decompress(page_codec::kZlib, page.bytes, landing.window(page.offset, page.page_bytes));
    });
    waiting_.clear();
    for (Result<>& each : results) RAMFERRY_TRY(std::move(each));
    return {};
  }

  Result<> find_block(SectionReader& in, bool same) {
    if (same) {
      if (!block_) return fail(errc::protocol_mismatch, "a page that continues no block");
      return {};
    }
    RAMFERRY_TRY_ASSIGN(const std::string name, in.text8());
    block_ = layout_.find(name);
    if (!block_) return fail(errc::not_found, "a page of the unknown RAM block '" + name + "'");
    return {};
  }

  Result<> page(SectionReader& in, std::uint64_t offset, std::uint64_t length) {
    GuestLanding& landing = *landings_[*block_];
    landing.note_written(offset, length);
    return in.get(landing.window(offset, length));
  }

  Result<> fill(SectionReader& in, std::uint64_t offset, std::uint64_t length) {
    RAMFERRY_TRY_ASSIGN(const std::uint8_t value, in.u8());
    GuestLanding& landing = *landings_[*block_];
    if (value == 0) return landing.zero(offset, length);
    landing.note_written(offset, length);
    const Bytes window = landing.window(offset, length);
    std::memset(window.data(), value, window.size());
    return {};
  }

  /// A compressed page that was read and not yet decompressed.
  struct Waiting {
    std::uint32_t block;
    std::uint64_t offset, page_bytes;
    std::vector<std::byte> bytes;
  };
  static constexpr std::size_t kMostWaiting = 64;

  const RamLayout& layout_;
  Landings landings_;
  Decompressors& decompressors_;
  std::vector<Waiting> waiting_;
  std::vector<std::byte> buffer_;
  std::optional<std::uint32_t> block_;  ///< of the record before
};

}  // namespace

std::unique_ptr<PageSource> make_native_source(Landings landings, SlotLink& link) {
  return std::make_unique<NativeSource>(landings, link);
}

std::unique_ptr<PageSource> make_inline_source(const RamLayout& layout, Landings landings,
                                               Decompressors& decompressors) {
  return std::make_unique<InlineSource>(layout, landings, decompressors);
}

}  // namespace ramferry::migration
