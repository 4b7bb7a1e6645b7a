// SPDX-License-Identifier: MIT
#include "page_codec.hpp"

#include <ramferry/migration/page_sink.hpp>
#include <ramferry/migration/ram_wire.hpp>
#include <ramferry/traits.hpp>

#include <algorithm>
#include <deque>

namespace ramferry::migration {
namespace {

class NativeSink final : public PageSink {
 public:
  NativeSink(const RamLayout& layout, SlotLink& link)
      : layout_(layout), link_(link), channel_(link.channel()), outstanding_(layout) {}

  Result<> begin(SectionWriter& /*section*/, SectionPart /*part*/) override { return {}; }

  Result<> pages(std::span<const PageRun> runs) override {
    RAMFERRY_TRY(channel_.place(placements_of(runs)));
    note(runs);
    return {};
  }

  Result<> encoded(std::span<const EncodedPages> pages) override {
    placements_.clear();
    payloads_.clear();
    for (std::size_t first = 0; first < pages.size();) first += add_encoded(pages.subspan(first));
    RAMFERRY_TRY(channel_.place(placements_));
    for (const EncodedPages& each : pages) note(std::span(&each.run, 1));
    return {};
  }
  const char* why_not_encoded() const noexcept override {
    return dynamic_cast<const PlacesDirectly*>(&channel_) != nullptr
               ? "this transport writes straight into the other end's memory, where nobody decodes"
               : nullptr;
  }
  bool encodes_page_by_page() const noexcept override { return false; }

  Result<> zeros(std::span<const PageRun> runs) override {
    zeros_.clear();
    for (const PageRun& run : runs) zeros_.push_back({SlotId{run.block}, offset(run), layout_.bytes(run)});
    RAMFERRY_TRY(channel_.zero(zeros_));
    note(runs);
    return {};
  }

  Result<> end(SectionWriter& section, SectionPart part) override {
    if (part != SectionPart::start) {
      RAMFERRY_TRY(fence());
      RAMFERRY_TRY(section.u64(fenced_));
    }
    RAMFERRY_TRY(section.u64(ram_wire::kEnd));
    if (part != SectionPart::start) return {};
    RAMFERRY_TRY(section.flush());
    return link_.await_slots();
  }

  Result<> lend(std::span<const PageRun> runs) override { return channel_.lend(placements_of(runs)); }

  Result<> prepare(const PageRun& run) override { return channel_.prepare(layout_.memory(run)); }

  std::uint64_t prepares_at_most() const noexcept override { return channel_.prepares_at_most(); }

  const DirtySet& outstanding() override {
    retire();
    return outstanding_;
  }

  Result<> drain(Deadline deadline) override {
    if (!unfenced_.empty()) RAMFERRY_TRY(fence());
    if (!flights_.empty()) RAMFERRY_TRY(channel_.settle(flights_.back().epoch, deadline));
    retire();
    return {};
  }

  bool wants_untouched() const noexcept override { return !link_.blank_destination(); }

 private:
  /// What one fence covers.
  struct Flight {
    Epoch epoch;
    std::vector<PageRun> runs;
  };

  std::uint64_t offset(const PageRun& run) const noexcept {
    return run.first * layout_[run.block].page_bytes;
  }

  /// Valid until the next call.
  std::span<const Placement> placements_of(std::span<const PageRun> runs) {
    placements_.clear();
    for (const PageRun& run : runs)
      placements_.push_back({.slot = SlotId{run.block}, .offset = offset(run), .bytes = layout_.memory(run)});
    return placements_;
  }

  static bool is_compressed(const EncodedPages& pages) noexcept {
    return pages.encoding == page_codec::kZlib || pages.encoding == page_codec::kZstd;
  }

  /// How many of `pages`, which adjoin each other as pieces of one compressed placement must.
  std::size_t adjoining(std::span<const EncodedPages> pages) const noexcept {
    std::size_t count = 1;
    for (; count < std::min(pages.size(), page_codec::kMostPieces); ++count) {
      const EncodedPages& before = pages[count - 1];
      const EncodedPages& next = pages[count];
      if (next.encoding != before.encoding || layout_.bytes(before.run) != page_codec::kPieceBytes ||
          next.run.block != before.run.block || next.run.first != before.run.first + before.run.count)
        break;
    }
    return count;
  }

  /// Adds one placement; returns how many of `pages` it covers.
  std::size_t add_encoded(std::span<const EncodedPages> pages) {
    const PageRun& run = pages[0].run;
    Placement placement{.slot = SlotId{run.block},
                        .offset = offset(run),
                        .bytes = pages[0].bytes,
                        .length = layout_.bytes(run),
                        .encoding = pages[0].encoding};
    std::size_t count = 1;
    if (is_compressed(pages[0])) {
      count = adjoining(pages);
      std::vector<ConstBytes> pieces;
      placement.length = 0;
      for (const EncodedPages& each : pages.first(count)) {
        pieces.push_back(each.bytes);
        placement.length += layout_.bytes(each.run);
      }
      page_codec::pack(pieces, payloads_.emplace_back());
      placement.bytes = payloads_.back();
    }
    placements_.push_back(placement);
    return count;
  }

  void note(std::span<const PageRun> runs) {
    for (const PageRun& run : runs) outstanding_.mark(run);
    unfenced_.insert(unfenced_.end(), runs.begin(), runs.end());
  }

  Result<> fence() {
    RAMFERRY_TRY_ASSIGN(fenced_, channel_.fence());
    flights_.push_back({fenced_, std::move(unfenced_)});
    unfenced_.clear();
    return {};
  }

  void retire() {
    const Epoch settled = channel_.settled();
    while (!flights_.empty() && flights_.front().epoch <= settled) {
      for (const PageRun& run : flights_.front().runs) outstanding_.clear(run);
      flights_.pop_front();
    }
  }

  const RamLayout& layout_;
  SlotLink& link_;
  Channel& channel_;
  DirtySet outstanding_;
  std::vector<PageRun> unfenced_;
  std::deque<Flight> flights_;
  Epoch fenced_ = 0;
  std::vector<Placement> placements_;
  std::deque<std::vector<std::byte>> payloads_;
  std::vector<ZeroRun> zeros_;
};

}  // namespace

std::unique_ptr<PageSink> make_native_sink(const RamLayout& layout, SlotLink& link) {
  return std::make_unique<NativeSink>(layout, link);
}

}  // namespace ramferry::migration
