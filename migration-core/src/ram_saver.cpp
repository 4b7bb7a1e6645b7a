// SPDX-License-Identifier: MIT
#include "ram_saver.hpp"

#include <ramferry/migration/ram_wire.hpp>

#include <algorithm>
#include <chrono>

namespace ramferry::migration {
namespace {

/// Shared among the lanes, so that each has a list of writes worth posting.
constexpr std::uint64_t kBatchBytes = 8ULL << 20;
constexpr std::uint64_t kZeroRecordBytes = 9;
/// Touched runs with a smaller gap between them are lent as one: few long registrations rather than many
/// short ones.
constexpr std::uint64_t kGapBytes = 64ULL << 10;
/// The first chunk; each is twice the one before, up to the usual size. So the first page leaves before much
/// had to be registered.
constexpr std::uint64_t kFirstChunkBytes = 1ULL << 20;

std::uint64_t pages_in(std::span<const PageRun> runs) noexcept {
  std::uint64_t pages = 0;
  for (const PageRun& run : runs) pages += run.count;
  return pages;
}

std::vector<PageRun> without_gaps(std::span<const PageRun> runs, std::uint64_t most_gap_pages) {
  std::vector<PageRun> merged;
  for (const PageRun& run : runs) {
    if (!merged.empty() && run.first - (merged.back().first + merged.back().count) <= most_gap_pages)
      merged.back().count = run.first + run.count - merged.back().first;
    else
      merged.push_back(run);
  }
  return merged;
}

/// What of the sorted runs from `next` on lies inside `whole`; `next` moves to the first that goes beyond it.
std::vector<PageRun> parts_within(const PageRun& whole, std::vector<PageRun>::const_iterator& next,
                                  std::vector<PageRun>::const_iterator last) {
  std::vector<PageRun> parts;
  const std::uint64_t end = whole.first + whole.count;
  for (; next != last && next->first < end; ++next) {
    const std::uint64_t first = std::max(next->first, whole.first);
    const std::uint64_t until = std::min(next->first + next->count, end);
    parts.push_back({whole.block, first, until - first});
    if (next->first + next->count > end) break;
  }
  return parts;
}

/// What of `whole` is not in `runs`, which are sorted and lie inside it.
std::vector<PageRun> complement(const PageRun& whole, std::span<const PageRun> runs) {
  std::vector<PageRun> rest;
  std::uint64_t at = whole.first;
  for (const PageRun& run : runs) {
    if (run.first > at) rest.push_back({whole.block, at, run.first - at});
    at = run.first + run.count;
  }
  if (at < whole.first + whole.count) rest.push_back({whole.block, at, whole.first + whole.count - at});
  return rest;
}

}  // namespace

RamSection::Saver::Saver(const RamLayout& layout, std::unique_ptr<PageSink> sink,
                         std::unique_ptr<DirtyTracker> tracker, const RamOptions& options)
    : layout_(layout),
      sink_(std::move(sink)),
      encoder_(layout, *sink_, options.coding),
      tracker_(std::move(tracker)),
      chunk_bytes_(options.chunk_bytes),
      dirty_(layout),
      planner_(layout) {
  progress_.tracker = tracker_->name();
  progress_.bytes_total = layout.bytes();
  progress_.page_bytes = page_bytes();
}

RamSection::Saver::~Saver() {
  tracker_->stop();
}

std::uint64_t RamSection::Saver::page_bytes() const noexcept {
  return layout_.blocks().empty() ? 4096 : layout_.blocks().front().page_bytes;
}

Result<> RamSection::Saver::begin(SectionWriter& out) {
  RAMFERRY_TRY(encoder_.check());
  RAMFERRY_TRY(out.u64(layout_.bytes() | ram_wire::kMemSize));
  for (const RamBlock& block : layout_.blocks()) {
    RAMFERRY_TRY(out.text8(block.name));
    RAMFERRY_TRY(out.u64(block.host.size()));
  }
  RAMFERRY_TRY(sink_->begin(out, SectionPart::start));
  RAMFERRY_TRY(sink_->end(out, SectionPart::start));
  return plan_chunks();
}

Result<> RamSection::Saver::plan_chunks() {
  const std::uint64_t most = std::min(chunk_bytes_, sink_->prepares_at_most());
  std::uint64_t chunk_bytes = std::min(kFirstChunkBytes, most);
  std::vector<PageRun> lent;
  for (std::uint32_t block = 0; block < layout_.blocks().size(); ++block) {
    const std::uint64_t page_bytes = layout_[block].page_bytes, pages = layout_[block].pages();
    RAMFERRY_TRY_ASSIGN(const auto touched, touched_runs(layout_, {block, 0, pages}));
    auto next = touched.begin();
    for (std::uint64_t first = 0; first < pages;) {
      const std::uint64_t wanted = std::max<std::uint64_t>(1, chunk_bytes / page_bytes);
      const PageRun run{block, first, std::min(wanted, pages - first)};
      first += run.count;
      chunk_bytes = std::min(chunk_bytes * 2, most);
      auto inside = without_gaps(parts_within(run, next, touched.end()), kGapBytes / page_bytes);
      lent.insert(lent.end(), inside.begin(), inside.end());
      add_chunk(run, std::move(inside));
    }
  }
  return sink_->lend(lent);
}

/// Untouched chunks that adjoin become one: nothing of them is prepared, and the kernel answers for all of it
/// at once.
void RamSection::Saver::add_chunk(const PageRun& run, std::vector<PageRun> touched) {
  unopened_pages_ += pages_in(touched);
  Chunk* const last = chunks_.empty() ? nullptr : &chunks_.back();
  if (touched.empty() && last != nullptr && last->touched.empty() && last->run.block == run.block)
    last->run.count += run.count;
  else
    chunks_.push_back({run, std::move(touched)});
}

Result<> RamSection::Saver::open_chunk() {
  const Chunk chunk = std::move(chunks_[next_chunk_++]);
  unopened_pages_ -= pages_in(chunk.touched);
  for (const PageRun& run : chunk.touched) RAMFERRY_TRY(sink_->prepare(run));
  RAMFERRY_TRY(tracker_->arm(chunk.run));
  // Asked again: a page that was first written since then, and before arming, is in no report of the tracker.
  RAMFERRY_TRY_ASSIGN(const auto touched, touched_runs(layout_, chunk.run));
  for (const PageRun& run : touched) dirty_.mark(run);
  progress_.dirty_pages += pages_in(touched);
  const auto untouched = complement(chunk.run, touched);
  progress_.pages.untouched += pages_in(untouched);
  if (!sink_->wants_untouched() || untouched.empty()) return {};
  return sink_->zeros(untouched);
}

Result<Pending> RamSection::Saver::iterate(SectionWriter& out, const Budget& budget) {
  RAMFERRY_TRY(sink_->begin(out, SectionPart::part));
  bytes_per_second_ = budget.bytes_per_second;
  std::uint64_t spent = 0;
  do {
    const std::uint64_t most = std::clamp<std::uint64_t>(budget.bytes - spent, page_bytes(), kBatchBytes);
    RAMFERRY_TRY_ASSIGN(const auto cost, send_batch(most));
    if (cost) {
      spent += *cost;
    } else if (!all_opened()) {
      RAMFERRY_TRY(open_chunk());
    } else {
      // Nothing is left but what is in flight. Asked again and again, the best that can be done is to wait
      // for it.
      if (dirty_.empty() && spent != 0) break;
      progress_.pages.deferred += dirty_.pages();
      RAMFERRY_TRY(await_arrival(budget.until));
      if (dirty_.empty()) break;
    }
  } while (spent < budget.bytes && !budget.until.passed());
  RAMFERRY_TRY(sink_->end(out, SectionPart::part));
  return estimate();
}

Result<std::optional<std::uint64_t>> RamSection::Saver::send_batch(std::uint64_t most_bytes) {
  // An empty batch ends a pass over memory; what was marked behind the cursor meanwhile is in the next one.
  PageBatch batch = planner_.next(dirty_, sink_->outstanding(), most_bytes);
  if (batch.empty()) batch = planner_.next(dirty_, sink_->outstanding(), most_bytes);
  if (batch.empty()) return std::nullopt;
  if (!batch.pages.empty()) RAMFERRY_TRY(send_pages(batch.pages));
  if (!batch.zeros.empty()) RAMFERRY_TRY(send_zeros(batch.zeros));
  return batch.bytes + batch.zeros.size() * kZeroRecordBytes;
}

Result<> RamSection::Saver::send_pages(std::span<const PageRun> runs) {
  RAMFERRY_TRY(encoder_.send(runs, paused_ ? 0 : bytes_per_second_, paused_));
  if (!progress_.first_byte) progress_.first_byte = Clock::Time::clock::now();
  progress_.bytes_sent += pages_in(runs) * page_bytes();
  return {};
}

Result<> RamSection::Saver::send_zeros(std::span<const PageRun> runs) {
  RAMFERRY_TRY(sink_->zeros(runs));
  encoder_.forget(runs);
  if (!progress_.first_byte) progress_.first_byte = Clock::Time::clock::now();
  progress_.pages.zero += pages_in(runs);
  progress_.bytes_sent += pages_in(runs) * page_bytes();
  return {};
}

Pending RamSection::Saver::estimate() {
  // What is in flight has to arrive within the downtime too.
  const std::uint64_t pages = dirty_.pages() + unopened_pages_ + sink_->outstanding().pages();
  return {.bytes = pages * page_bytes(), .finishable = all_opened()};
}

Result<Pending> RamSection::Saver::pending(bool exact) {
  if (exact && all_opened()) {
    const std::uint64_t before = dirty_.pages();
    RAMFERRY_TRY(tracker_->harvest(dirty_));
    progress_.dirty_pages = dirty_.pages() - std::min(before, dirty_.pages());
    encoder_.next_round();
  }
  return estimate();
}

Result<bool> RamSection::Saver::await_arrival(Deadline deadline) {
  const auto drained = sink_->drain(deadline);
  if (!drained && !drained.error().is(errc::timed_out)) return Failure(drained.error());
  return drained.has_value();
}

Result<> RamSection::Saver::finish(SectionWriter& out) {
  RAMFERRY_TRY(sink_->begin(out, SectionPart::end));
  while (!all_opened()) RAMFERRY_TRY(open_chunk());
  RAMFERRY_TRY(tracker_->harvest(dirty_));
  encoder_.next_round();
  paused_ = true;
  while (!dirty_.empty()) {
    RAMFERRY_TRY_ASSIGN(const auto cost, send_batch(kBatchBytes));
    if (!cost) RAMFERRY_TRY(sink_->drain(Deadline::never()));
  }
  // The fence of this part is what the destination checks before it says PREPARED: no wait of our own is
  // needed.
  return sink_->end(out, SectionPart::end);
}

void RamSection::Saver::report(Progress& into) const {
  into.bytes_total += progress_.bytes_total;
  into.bytes_remaining += (dirty_.pages() + unopened_pages_) * page_bytes();
  into.bytes_sent += progress_.bytes_sent;
  into.dirty_pages += progress_.dirty_pages;
  into.page_bytes = progress_.page_bytes;
  encoder_.report(into);
  into.pages.zero += progress_.pages.zero;
  into.pages.untouched += progress_.pages.untouched;
  into.pages.deferred += progress_.pages.deferred;
  into.tracker = progress_.tracker;
  if (!into.first_byte) into.first_byte = progress_.first_byte;
}

}  // namespace ramferry::migration
