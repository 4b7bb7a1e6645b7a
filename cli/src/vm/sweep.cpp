// SPDX-License-Identifier: MIT
#include "vm/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <thread>

namespace ramferry::vm {
namespace {

constexpr std::uint64_t kStridePages = 1024;

/// One thread's findings.
class Sweeper {
 public:
  Sweeper(const GuestMemory& memory, const PageTable& table) : memory_(memory), table_(table) {}

  void pages(std::uint32_t block, std::uint64_t first, std::uint64_t count) {
    const std::vector<bool> touched = memory_.touched(block, first, count);
    for (std::uint64_t i = 0; i < count; ++i) page(block, first + i, touched[i]);
  }
  const SweepReport& report() const noexcept { return report_; }

 private:
  void page(std::uint32_t block, std::uint64_t page, bool touched) {
    const PageEntry expected = table_.get(block, page);
    // What the kernel holds nothing for reads as zeros, and need not be read.
    const Verdict verdict = touched || expected.kind == PageKind::stamped
                                ? check_page(memory_.page(block, page), place_of(block, page), expected)
                                : Verdict::right;
    ++report_.pages;
    ++report_.verdicts[static_cast<std::size_t>(verdict)];
    if (verdict != Verdict::right) {
      if (report_.first_wrong.size() < SweepReport::kMostListed)
        report_.first_wrong.push_back({memory_.layout()[block].name, page, verdict, expected});
      return;
    }
    switch (expected.kind) {
      case PageKind::untouched:
        ++report_.untouched;
        if (touched) ++report_.materialised;
        break;
      case PageKind::zero: ++report_.zero; break;
      case PageKind::stamped: ++report_.stamped; break;
    }
  }

  const GuestMemory& memory_;
  const PageTable& table_;
  SweepReport report_;
};

void merge(SweepReport& into, const SweepReport& part) {
  into.pages += part.pages;
  into.untouched += part.untouched;
  into.zero += part.zero;
  into.stamped += part.stamped;
  into.materialised += part.materialised;
  for (std::size_t i = 0; i < kVerdicts; ++i) into.verdicts[i] += part.verdicts[i];
  into.first_wrong.insert(into.first_wrong.end(), part.first_wrong.begin(), part.first_wrong.end());
}

}  // namespace

SweepReport sweep(const GuestMemory& memory, const PageTable& table, const std::atomic<bool>& cancel) {
  const auto began = std::chrono::steady_clock::now();
  SweepReport total;
  std::mutex mutex;
  std::atomic<std::uint64_t> next = 0;
  const auto work = [&] {
    Sweeper sweeper(memory, table);
    for (std::uint64_t first = next.fetch_add(kStridePages); first < table.pages() && !cancel;
         first = next.fetch_add(kStridePages)) {
      const std::uint64_t end = std::min(first + kStridePages, table.pages());
      for (std::uint64_t number = first; number < end;) {
        const auto at = table.locate(number);
        const std::uint64_t count = std::min(end - number, table.pages(at.block) - at.first);
        sweeper.pages(at.block, at.first, count);
        number += count;
      }
    }
    const std::lock_guard lock(mutex);
    merge(total, sweeper.report());
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();

  const auto earlier = [](const WrongPage& a, const WrongPage& b) {
    return a.block != b.block ? a.block < b.block : a.page < b.page;
  };
  std::sort(total.first_wrong.begin(), total.first_wrong.end(), earlier);
  if (total.first_wrong.size() > SweepReport::kMostListed) total.first_wrong.resize(SweepReport::kMostListed);
  total.took = std::chrono::steady_clock::now() - began;
  return total;
}

std::string describe(const SweepReport& report) {
  std::string text = fmt::format("{} pages in {:.2f} s: {} untouched, {} zero, {} stamped, {} wrong",
                                 report.pages, std::chrono::duration<double>(report.took).count(),
                                 report.untouched, report.zero, report.stamped, report.wrong());
  for (const WrongPage& wrong : report.first_wrong) {
    text += fmt::format("\n  {} page {}: {} (expected kind {}, generation {})", wrong.block, wrong.page,
                        to_string(wrong.verdict), static_cast<int>(wrong.expected.kind),
                        wrong.expected.generation);
  }
  return text;
}

}  // namespace ramferry::vm
