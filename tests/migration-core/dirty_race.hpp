// SPDX-License-Identifier: MIT
// A race between a guest that keeps writing to a few pages and a sender that keeps harvesting and copying
// them.
//
// Each page carries its number, a generation and a checksum over a body that depends on both. Once the guest
// has stopped, one more harvest must be all it takes to make the copy equal, whatever happened before.
#pragma once

#include "test_memory.hpp"

#include <ramferry/migration/dirty_tracker.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace ramferry::migration::test {

/// The content of a page at a generation.
class Stamp {
 public:
  static constexpr std::size_t kWords = kPage / sizeof(std::uint64_t);
  using Words = std::array<std::uint64_t, kWords>;

  static Words make(std::uint64_t page, std::uint64_t generation) {
    Words words{page, generation};
    std::uint64_t value = page * 0x9e3779b97f4a7c15 + generation;
    for (std::size_t i = 2; i < kWords - 1; ++i)
      words[i] = value = value * 6364136223846793005 + 1442695040888963407;
    words[kWords - 1] = checksum(words);
    return words;
  }
  static std::uint64_t checksum(const Words& words) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < kWords - 1; ++i) sum = (sum ^ words[i]) * 0x100000001b3;
    return sum;
  }
};

RAMFERRY_RACES_ON_PURPOSE inline void copy_words(volatile std::uint64_t* to,
                                                 const volatile std::uint64_t* from, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) to[i] = from[i];
}

/// Lets the other side run at odd moments, also where both share a CPU.
class OddMoments {
 public:
  explicit OddMoments(std::uint64_t seed) : random_(seed) {}
  void maybe() {
    if (random_() % 8 == 0) std::this_thread::yield();
  }

 private:
  std::minstd_rand random_;
};

/// How the guest writes.
enum class Writer {
  store,        ///< its CPU stores
  system_call,  ///< read(2) into guest memory
};

class DirtyRace {
 public:
  struct Plan {
    Writer writer = Writer::store;
    std::uint64_t rounds = 100;  ///< harvests that found something, while the guest wrote
    std::uint64_t seed = 1;
    /// Called by the writing thread after each write.
    std::function<void(std::uint64_t page)> written = [](std::uint64_t) {};
  };

  explicit DirtyRace(const Memory& memory)
      : memory_(memory),
        layout_(memory.layout()),
        generations_(layout_.pages()),
        copy_(memory.bytes().size()) {}

  const RamLayout& layout() const noexcept { return layout_; }
  std::uint64_t copied() const noexcept { return copied_; }

  /// Runs until the guest stopped and the last pages were copied. Returns how many pages are wrong then.
  std::uint64_t run(DirtyTracker& tracker, const Plan& plan) {
    require(tracker.arm({0, 0, layout_.pages()}));
    DirtySet dirty(layout_);
    dirty.mark_all();
    std::atomic<bool> stop{false};
    std::thread guest([&] { write(plan, stop); });
    copy(dirty);
    try {
      // A tracker gone blind would let us wait for ever; the comparison shows it up.
      std::uint64_t round = 0, seen_at = 0;
      while (round < plan.rounds && writes_ - seen_at < kBlind) {
        require(tracker.harvest(dirty));
        if (dirty.empty()) {
          std::this_thread::yield();
          continue;
        }
        ++round;
        seen_at = writes_;
        copy(dirty);
      }
    } catch (...) {
      stop = true;
      guest.join();
      throw;
    }
    stop = true;
    guest.join();
    require(tracker.harvest(dirty));
    copy(dirty);
    return wrong_pages();
  }

 private:
  static constexpr std::uint64_t kBlind = 10000;  // writes, and nothing found

  static void require(const Result<>& done) {
    if (!done) throw std::runtime_error(done.error().message());
  }
  std::uint64_t* guest_page(std::uint64_t page) const {
    return static_cast<std::uint64_t*>(static_cast<void*>(memory_.page(page).data()));
  }
  std::uint64_t* copied_page(std::uint64_t page) {
    return static_cast<std::uint64_t*>(static_cast<void*>(copy_.data() + page * kPage));
  }

  void write(const Plan& plan, const std::atomic<bool>& stop) {
    const Memory file = Memory::memfd(kPage);
    std::mt19937_64 random(plan.seed);
    OddMoments odd(plan.seed);
    while (!stop) {
      const std::uint64_t page = random() % layout_.pages() & random();  // low pages more often
      const Stamp::Words words = Stamp::make(page, ++generations_[page]);
      odd.maybe();
      if (plan.writer == Writer::store) {
        const std::size_t torn = random() % words.size();
        copy_words(guest_page(page), words.data(), torn);
        odd.maybe();
        copy_words(guest_page(page) + torn, words.data() + torn, words.size() - torn);
      } else if (pwrite(file.fd(), words.data(), kPage, 0) != static_cast<ssize_t>(kPage) ||
                 pread(file.fd(), guest_page(page), kPage, 0) != static_cast<ssize_t>(kPage)) {
        std::abort();
      }
      plan.written(page);
      ++writes_;
    }
  }

  void copy(DirtySet& dirty) {
    while (const auto run = dirty.take(0, 0, layout_.pages())) {
      for (std::uint64_t page = run->first; page < run->first + run->count; ++page) {
        odd_.maybe();
        copy_words(copied_page(page), guest_page(page), Stamp::kWords);
      }
      copied_ += run->count;
    }
  }

  std::uint64_t wrong_pages() {
    std::uint64_t wrong = 0;
    for (std::uint64_t page = 0; page < layout_.pages(); ++page) {
      const Stamp::Words expected =
          generations_[page] == 0 ? Stamp::Words{} : Stamp::make(page, generations_[page]);
      if (std::memcmp(copied_page(page), expected.data(), kPage) != 0) ++wrong;
    }
    return wrong;
  }

  const Memory& memory_;
  const RamLayout layout_;
  std::vector<std::uint64_t> generations_;  // the guest's, until it was joined
  std::vector<std::byte> copy_;
  std::uint64_t copied_ = 0;
  std::atomic<std::uint64_t> writes_{0};
  OddMoments odd_{7};
};

}  // namespace ramferry::migration::test
