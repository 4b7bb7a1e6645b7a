// SPDX-License-Identifier: MIT
#include "page_codec.hpp"

#include <ramferry/migration/page_sink.hpp>
#include <ramferry/migration/ram_wire.hpp>

#include <cassert>

namespace ramferry::migration {
namespace {

class InlineSink final : public PageSink {
 public:
  explicit InlineSink(const RamLayout& layout) : layout_(layout), none_(layout) {}

  Result<> begin(SectionWriter& section, SectionPart /*part*/) override {
    out_ = &section;
    last_block_.reset();
    return {};
  }

  Result<> pages(std::span<const PageRun> runs) override {
    for (const PageRun& run : runs) RAMFERRY_TRY(page_records(run));
    return {};
  }

  Result<> zeros(std::span<const PageRun> runs) override {
    for (const PageRun& run : runs) {
      for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
        RAMFERRY_TRY(head(run.block, page, ram_wire::kZero));
        RAMFERRY_TRY(out_->u8(0));
      }
    }
    return {};
  }

  Result<> end(SectionWriter& section, SectionPart /*part*/) override {
    out_ = nullptr;
    return section.u64(ram_wire::kEnd);
  }

  Result<> encoded(std::span<const EncodedPages> pages) override {
    for (const EncodedPages& each : pages) RAMFERRY_TRY(encoded_record(each));
    return {};
  }
  bool encodes_page_by_page() const noexcept override { return true; }

  const DirtySet& outstanding() override { return none_; }
  Result<> drain(Deadline /*deadline*/) override { return {}; }
  bool wants_untouched() const noexcept override { return true; }

 private:
  Result<> page_records(const PageRun& run) {
    const std::uint64_t page_bytes = layout_[run.block].page_bytes;
    ConstBytes memory = layout_.memory(run);
    for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
      RAMFERRY_TRY(head(run.block, page, ram_wire::kPage));
      RAMFERRY_TRY(out_->put(memory.first(page_bytes)));
      memory = memory.subspan(page_bytes);
    }
    return {};
  }

  Result<> encoded_record(const EncodedPages& page) {
    assert(page.run.count == 1 && page.encoding != page_codec::kZstd);
    if (page.encoding == page_codec::kXbzrle) {
      const auto length = static_cast<std::uint16_t>(page.bytes.size());
      RAMFERRY_TRY(head(page.run.block, page.run.first, ram_wire::kXbzrle));
      RAMFERRY_TRY(out_->u8(1));
      RAMFERRY_TRY(out_->u8(static_cast<std::uint8_t>(length >> 8)));
      RAMFERRY_TRY(out_->u8(static_cast<std::uint8_t>(length & 0xff)));
    } else if (page.bytes.size() == layout_.bytes(page.run)) {
      RAMFERRY_TRY(head(page.run.block, page.run.first, ram_wire::kPage));
    } else {
      RAMFERRY_TRY(head(page.run.block, page.run.first, ram_wire::kCompress));
      RAMFERRY_TRY(out_->u32(static_cast<std::uint32_t>(page.bytes.size())));
    }
    return out_->put(page.bytes);
  }

  /// The record's word, and the block's name where it is not the one before.
  Result<> head(std::uint32_t block, std::uint64_t page, std::uint64_t flag) {
    assert(out_ != nullptr);
    const std::uint64_t offset = page * layout_[block].page_bytes;
    if (last_block_ == block) return out_->u64(offset | flag | ram_wire::kContinue);
    last_block_ = block;
    RAMFERRY_TRY(out_->u64(offset | flag));
    return out_->text8(layout_[block].name);
  }

  const RamLayout& layout_;
  const DirtySet none_;
  SectionWriter* out_ = nullptr;
  std::optional<std::uint32_t> last_block_;
};

}  // namespace

std::unique_ptr<PageSink> make_inline_sink(const RamLayout& layout) {
  return std::make_unique<InlineSink>(layout);
}

}  // namespace ramferry::migration
