// SPDX-License-Identifier: MIT
#include "ram_wire.hpp"

#include <ramferry/migration/page_sink.hpp>

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
  std::vector<ZeroRun> zeros_;
};

}  // namespace

std::unique_ptr<PageSink> make_native_sink(const RamLayout& layout, SlotLink& link) {
  return std::make_unique<NativeSink>(layout, link);
}

}  // namespace ramferry::migration
