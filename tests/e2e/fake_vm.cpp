// SPDX-License-Identifier: MIT
#include "fake_vm.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>

namespace ramferry::test {

using migration::PageRun;
using migration::RamBlock;
using migration::RamLayout;

namespace {

constexpr std::uint64_t kWritesAtOnce = 16;

RamLayout layout_of(const std::vector<TestMemory>& memory) {
  std::vector<RamBlock> blocks;
  for (std::size_t i = 0; i < memory.size(); ++i)
    blocks.push_back({.name = "ram" + std::to_string(i), .host = memory[i].bytes()});
  return *RamLayout::make(std::move(blocks));
}

// Guest memory as ThreadSanitizer must not see it: the migration reads it while the guest writes it, and the
// write has marked the page again ("Clear before read", invariant 1).
#define RAMFERRY_UNSEEN __attribute__((no_sanitize("thread"), noinline))

std::uint64_t* word_at(std::byte* at) noexcept {
  return reinterpret_cast<std::uint64_t*>(at);
}

RAMFERRY_UNSEEN void store(std::byte* at, std::uint64_t value) noexcept {
  __atomic_store_n(word_at(at), value, __ATOMIC_RELAXED);
}

RAMFERRY_UNSEEN bool same(Bytes one, Bytes other) noexcept {
  for (std::size_t at = 0; at < one.size(); at += sizeof(std::uint64_t))
    if (__atomic_load_n(word_at(one.data() + at), __ATOMIC_RELAXED) !=
        __atomic_load_n(word_at(other.data() + at), __ATOMIC_RELAXED))
      return false;
  return true;
}

}  // namespace

FakeVm::FakeVm(const std::vector<std::size_t>& pages) {
  options_.pages = pages;
  for (const std::size_t count : pages) memory_.emplace_back(count * kPage);
  layout_ = layout_of(memory_);
}

FakeVm::FakeVm(const Options& options) : FakeVm(options.pages) {
  options_ = options;
  fill();
  for (unsigned i = 0; i < options.writers; ++i) writers_.emplace_back([this, i] { write_all_the_time(i); });
}

FakeVm::~FakeVm() {
  stop_ = true;
  for (std::thread& each : writers_) each.join();
}

/// Stretches of 1 to 64 pages: untouched, zero but touched, or random.
void FakeVm::fill() {
  std::mt19937_64 random(options_.seed);
  for (const TestMemory& memory : memory_) {
    const std::size_t pages = memory.bytes().size() / kPage;
    for (std::size_t page = 0; page < pages;) {
      const std::size_t count = std::min<std::size_t>(1 + random() % 64, pages - page);
      const Bytes stretch = memory.slice(page * kPage, count * kPage);
      const auto kind = random() % 3;
      if (kind == 1) std::memset(stretch.data(), 0, stretch.size());
      if (kind == 2) fill_pattern(stretch, random());
      page += count;
    }
  }
}

Result<> FakeVm::pause() {
  running_ = false;  // before the lock: writers who never let go of it would starve us
  const std::unique_lock lock(cpus_);
  ++pauses_;
  return {};
}

Result<> FakeVm::resume() {
  const std::unique_lock lock(cpus_);
  running_ = true;
  ++resumes_;
  return {};
}

void FakeVm::write_all_the_time(unsigned writer) {
  std::mt19937_64 random(options_.seed * 1000 + writer);
  const std::chrono::nanoseconds step = std::chrono::nanoseconds(std::chrono::seconds(1)) * kWritesAtOnce *
                                        options_.writers /
                                        std::max<std::uint64_t>(1, options_.writes_per_second);
  auto next = std::chrono::steady_clock::now();
  while (!stop_) {
    if (running_) {
      const std::shared_lock lock(cpus_);
      for (std::uint64_t i = 0; running_ && i < kWritesAtOnce; ++i) write_once(random);
    }
    next = std::max(next + step, std::chrono::steady_clock::now());
    std::this_thread::sleep_until(next);
  }
}

void FakeVm::write_once(std::mt19937_64& random) {
  const auto block = static_cast<std::uint32_t>(random() % memory_.size());
  const Bytes memory = memory_[block].bytes();
  const std::size_t pages = memory.size() / kPage;
  const auto hot =
      std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(pages) * options_.hot_share));
  const std::size_t offset = (random() % hot) * kPage;
  std::byte* const page = memory.data() + offset;
  switch (random() % 8) {
    case 0:
      for (std::size_t at = 0; at < kPage; at += 8) store(page + at, 0);
      break;
    case 1:
      for (std::size_t at = 0; at < kPage; at += 8) store(page + at, random());
      break;
    default: store(page + random() % (kPage / 8) * 8, random()); break;
  }
  if (report_) report_(block, offset, kPage);
}

void guest_writes(Bytes to, ConstBytes content) noexcept {
  for (std::size_t at = 0; at < to.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t value = 0;
    std::memcpy(&value, content.data() + at, sizeof value);
    store(to.data() + at, value);
  }
}

std::optional<std::string> first_difference(const RamLayout& one, const RamLayout& other) {
  for (std::uint32_t block = 0; block < one.blocks().size(); ++block) {
    for (std::uint64_t page = 0; page < one[block].pages(); ++page) {
      const PageRun run{block, page, 1};
      if (!same(one.memory(run), other.memory(run)))
        return "block " + std::to_string(block) + " page " + std::to_string(page);
    }
  }
  return std::nullopt;
}

}  // namespace ramferry::test
