// SPDX-License-Identifier: MIT
#include "vm/workload.hpp"

#include "vm/page_stamp.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>

namespace ramferry::vm {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::array<std::string_view, 5> kPatterns = {"uniform", "zipf", "sequential", "second", "hot"};
constexpr auto kSlice = std::chrono::milliseconds(1);
/// After a delay this much is made up for; what is beyond is dropped, so that a resumed VM does not burst.
constexpr auto kMostCatchUp = std::chrono::milliseconds(50);
constexpr std::uint64_t kZeroOneIn = 64, kTouchOneIn = 64, kHotOneIn = 20;
constexpr int kMostDraws = 16;

/// Spreads ranks over all pages: the multiplier is odd and large, so that neighbours part.
std::uint64_t scatter(std::uint64_t rank, std::uint64_t pages) noexcept {
  return rank * 0x9e3779b1u % pages;
}

}  // namespace

std::string_view to_string(Pattern pattern) noexcept {
  return kPatterns[static_cast<std::size_t>(pattern)];
}

Result<Pattern> parse_pattern(std::string_view text) {
  const auto at = std::find(kPatterns.begin(), kPatterns.end(), text);
  if (at == kPatterns.end())
    return fail(errc::invalid_argument, "reading the dirty pattern '" + std::string(text) + "'",
                "use uniform, zipf, sequential, second or hot");
  return static_cast<Pattern>(at - kPatterns.begin());
}

Workload::Workload(const GuestMemory& memory, PageTable& table, const WorkloadSpec& spec)
    : memory_(memory), table_(table), spec_(spec) {
  if (spec_.bytes_per_second == 0) return;
  for (unsigned i = 0; i < std::max(1u, spec_.writers); ++i)
    threads_.emplace_back(&Workload::run, this, Writer{.number = i, .random = Random(spec_.seed * 7919 + i)});
}

Workload::~Workload() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    paused_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workload::pause() {
  std::unique_lock lock(mutex_);
  paused_ = true;
  changed_.wait(lock, [this] { return writing_ == 0; });
}

void Workload::resume() {
  {
    const std::lock_guard lock(mutex_);
    paused_ = false;
  }
  changed_.notify_all();
}

bool Workload::wait_for_turn(SteadyClock::time_point due) {
  std::unique_lock lock(mutex_);
  if (--writing_ == 0) changed_.notify_all();
  changed_.wait(lock, [this] { return !paused_ || stopping_; });
  changed_.wait_until(lock, due, [this] { return paused_ || stopping_; });
  ++writing_;
  return !stopping_;
}

void Workload::run(Writer writer) {
  {
    const std::lock_guard lock(mutex_);
    ++writing_;
  }
  const double share = static_cast<double>(spec_.bytes_per_second) / std::max(1u, spec_.writers);
  auto due = SteadyClock::now();
  double owed = 0;
  while (wait_for_turn(due)) {
    const auto now = SteadyClock::now();
    const auto since = std::min<SteadyClock::duration>(now - due + kSlice, kMostCatchUp);
    const double slow = 1.0 - throttle_ / 100.0;
    owed += share * slow * std::chrono::duration<double>(since).count() / static_cast<double>(kPageBytes);
    const auto pages = static_cast<std::uint64_t>(owed);
    owed -= static_cast<double>(pages);
    write_some(writer, pages);
    due = now + kSlice;
  }
  const std::lock_guard lock(mutex_);
  --writing_;
  changed_.notify_all();
}

void Workload::write_some(Writer& writer, std::uint64_t pages) {
  for (; pages > 0 && !paused_.load(std::memory_order_relaxed); --pages) write_page(writer, choose(writer));
}

std::uint64_t Workload::draw(Writer& writer) const noexcept {
  const std::uint64_t mine = std::max<std::uint64_t>(1, table_.pages() / std::max(1u, spec_.writers));
  switch (spec_.pattern) {
    case Pattern::uniform: return writer.random.below(mine);
    case Pattern::zipf: {
      // The inverse of Zipf's distribution with exponent 1: rank r has probability ~ 1/r.
      const double rank = std::pow(static_cast<double>(mine), writer.random.unit()) - 1;
      return scatter(static_cast<std::uint64_t>(rank), mine);
    }
    case Pattern::sequential: return writer.cursor++ % mine;
    case Pattern::second: return writer.cursor++ * 2 % std::max<std::uint64_t>(2, mine & ~std::uint64_t{1});
    case Pattern::hot:
      return scatter(writer.random.below(std::max<std::uint64_t>(1, mine / kHotOneIn)), mine);
  }
  return 0;
}

std::uint64_t Workload::choose(Writer& writer) const noexcept {
  const std::uint64_t writers = std::max(1u, spec_.writers);
  std::uint64_t number = 0;
  for (int tries = 0; tries < kMostDraws; ++tries) {
    number = draw(writer) * writers + writer.number;
    const auto at = table_.locate(number);
    if (table_.get(at.block, at.first).kind != PageKind::untouched) return number;
    if (writer.random.below(kTouchOneIn) == 0) return number;
  }
  return number;
}

void Workload::write_page(Writer& writer, std::uint64_t number) noexcept {
  const auto at = table_.locate(number);
  const PageEntry old = table_.get(at.block, at.first);
  if (old.generation == kMostGeneration) return;
  const Bytes page = memory_.page(at.block, at.first);
  if (old.kind == PageKind::stamped && writer.random.below(kZeroOneIn) == 0) {
    std::memset(page.data(), 0, page.size());
    table_.set(at.block, at.first, {.kind = PageKind::zero, .generation = old.generation + 1});
  } else {
    change_content(page, at, writer.random);
  }
  written_.fetch_add(1, std::memory_order_relaxed);
}

void Workload::change_content(Bytes page, const migration::PageRun& at, Random& random) noexcept {
  const PageEntry old = table_.get(at.block, at.first);
  const std::uint64_t change =
      old.kind == PageKind::stamped ? std::min(spec_.change_bytes, kBodyBytes) : kBodyBytes;
  random.fill(page.subspan(random.below(kBodyBytes - change + 1), change));
  const PageEntry now{.kind = PageKind::stamped, .generation = old.generation + 1};
  stamp_page(page, place_of(at.block, at.first), now.generation);
  table_.set(at.block, at.first, now);
}

Result<> Workload::write(std::span<const std::uint64_t> pages) {
  if (!threads_.empty()) return fail(errc::wrong_state, "writing pages: the workload has writers of its own");
  {
    const std::lock_guard lock(mutex_);
    if (paused_) return fail(errc::wrong_state, "writing pages of a VM that is paused");
    ++writing_;
  }
  Random random(spec_.seed + written_);
  for (const std::uint64_t number : pages) {
    if (paused_.load(std::memory_order_relaxed)) break;
    const auto at = table_.locate(number);
    if (table_.get(at.block, at.first).generation == kMostGeneration) continue;
    change_content(memory_.page(at.block, at.first), at, random);
    written_.fetch_add(1, std::memory_order_relaxed);
  }
  const std::lock_guard lock(mutex_);
  --writing_;
  changed_.notify_all();
  return {};
}

}  // namespace ramferry::vm
