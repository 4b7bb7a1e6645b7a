// SPDX-License-Identifier: MIT
#include <ramferry/migration/dirty_set.hpp>

#include <algorithm>
#include <bit>
#include <cassert>

namespace ramferry::migration {
namespace {

constexpr std::uint64_t kWordBits = 64;
constexpr std::uint64_t kAllBits = ~std::uint64_t{0};

/// Bits [from, from + count) of a word; count is 1 to 64 - from.
constexpr std::uint64_t mask_of(std::uint64_t from, std::uint64_t count) noexcept {
  return (kAllBits >> (kWordBits - count)) << from;
}

std::uint64_t count_of(std::uint64_t word) noexcept {
  return static_cast<std::uint64_t>(std::popcount(word));
}

/// Calls `change(word, mask)` for each word that pages [first, first + count) reach into.
template <class Change>
void for_each_word(std::vector<std::uint64_t>& words, std::uint64_t first, std::uint64_t count,
                   Change change) {
  while (count > 0) {
    const std::uint64_t bit = first % kWordBits;
    const std::uint64_t here = std::min(kWordBits - bit, count);
    change(words[first / kWordBits], mask_of(bit, here));
    first += here;
    count -= here;
  }
}

/// The words of one block, less those of the pages to leave out.
class Candidates {
 public:
  Candidates(std::span<const std::uint64_t> dirty, std::span<const std::uint64_t> except) noexcept
      : dirty_(dirty), except_(except) {}

  /// The first page at or after `page`, or `end` if there is none.
  std::uint64_t find(std::uint64_t page, std::uint64_t end) const noexcept {
    if (page >= end) return end;
    std::size_t at = page / kWordBits;
    std::uint64_t word = candidates(at) & (kAllBits << (page % kWordBits));
    while (word == 0) {
      if (++at == dirty_.size()) return end;
      word = candidates(at);
    }
    return at * kWordBits + static_cast<std::uint64_t>(std::countr_zero(word));
  }

  /// How many pages from `page` on follow each other, at most `most`.
  std::uint64_t length(std::uint64_t page, std::uint64_t most) const noexcept {
    std::uint64_t count = 0;
    while (count < most && (page + count) / kWordBits < dirty_.size()) {
      const std::uint64_t bit = (page + count) % kWordBits;
      const auto here =
          static_cast<std::uint64_t>(std::countr_one(candidates((page + count) / kWordBits) >> bit));
      count += here;
      if (here < kWordBits - bit) break;
    }
    return std::min(count, most);
  }

 private:
  std::uint64_t candidates(std::size_t at) const noexcept {
    return except_.empty() ? dirty_[at] : dirty_[at] & ~except_[at];
  }

  std::span<const std::uint64_t> dirty_, except_;
};

}  // namespace

DirtySet::DirtySet(const RamLayout& layout) {
  for (const RamBlock& block : layout.blocks()) {
    block_pages_.push_back(block.pages());
    words_.emplace_back((block.pages() + kWordBits - 1) / kWordBits);
  }
}

void DirtySet::mark(const PageRun& run) {
  assert(run.first <= block_pages_[run.block] && run.count <= block_pages_[run.block] - run.first);
  for_each_word(words_[run.block], run.first, run.count, [this](std::uint64_t& word, std::uint64_t mask) {
    pages_ += count_of(mask & ~word);
    word |= mask;
  });
}

void DirtySet::clear(const PageRun& run) {
  assert(run.first <= block_pages_[run.block] && run.count <= block_pages_[run.block] - run.first);
  for_each_word(words_[run.block], run.first, run.count, [this](std::uint64_t& word, std::uint64_t mask) {
    pages_ -= count_of(mask & word);
    word &= ~mask;
  });
}

void DirtySet::mark_all() {
  for (std::uint32_t block = 0; block < words_.size(); ++block) mark({block, 0, block_pages_[block]});
}

void DirtySet::clear_all() {
  for (auto& words : words_) std::fill(words.begin(), words.end(), 0);
  pages_ = 0;
}

void DirtySet::merge(const DirtySet& newer) {
  assert(newer.block_pages_ == block_pages_);
  for (std::size_t block = 0; block < words_.size(); ++block) {
    for (std::size_t at = 0; at < words_[block].size(); ++at) {
      const std::uint64_t added = newer.words_[block][at] & ~words_[block][at];
      if (added == 0) continue;
      pages_ += count_of(added);
      words_[block][at] |= added;
    }
  }
}

bool DirtySet::contains(std::uint32_t block, std::uint64_t page) const noexcept {
  return block < words_.size() && page < block_pages_[block] &&
         (words_[block][page / kWordBits] >> (page % kWordBits) & 1) != 0;
}

std::optional<PageRun> DirtySet::take(std::uint32_t block, std::uint64_t page, std::uint64_t most_pages,
                                      const DirtySet* except) {
  assert(except == nullptr || except->block_pages_ == block_pages_);
  if (most_pages == 0 || empty()) return std::nullopt;
  const bool leave_out = except != nullptr && !except->empty();
  for (; block < words_.size(); ++block, page = 0) {
    const Candidates candidates(words_[block],
                                leave_out ? except->words(block) : std::span<const std::uint64_t>());
    const std::uint64_t first = candidates.find(page, block_pages_[block]);
    if (first == block_pages_[block]) continue;
    const PageRun run{block, first, candidates.length(first, most_pages)};
    clear(run);
    return run;
  }
  return std::nullopt;
}

}  // namespace ramferry::migration
