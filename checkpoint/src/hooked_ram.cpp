// SPDX-License-Identifier: MIT
#include "hooked_ram.hpp"

#include <ramferry/endpoint.hpp>
#include <ramferry/zero_scan.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace ramferry::checkpoint {
namespace {

constexpr std::size_t kLotPages = 256;
constexpr unsigned kMostKeepers = 8;
constexpr std::size_t kAhead = 2 * kLotPages;
constexpr auto kLook = std::chrono::milliseconds(10);

}  // namespace

/// A RAM block's memory, and what is known of its pages.
class HookedRam::Block final : public Landing {
 public:
  static Result<std::unique_ptr<Block>> make(const BlockInfo& info) {
    std::unique_ptr<Block> block(new Block(info.bytes));
    if (info.bytes == 0) return block;
    void* const at = ::mmap(nullptr, info.bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
      return fail_errno(errno, "making room for RAM block '" + info.name + "' of " + format_size(info.bytes));
    block->memory_ = Bytes(static_cast<std::byte*>(at), info.bytes);
    static_cast<void>(::madvise(at, info.bytes, MADV_DONTFORK));
    block->landing_.emplace(block->memory_, MemoryLanding::Content::blank);
    return block;
  }
  ~Block() override {
    if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
  }

  std::uint64_t size() const noexcept override { return memory_.size(); }
  Bytes window(std::uint64_t offset, std::uint64_t length) noexcept override {
    return landing_->window(offset, length);
  }
  void note_written(std::uint64_t offset, std::uint64_t length) noexcept override {
    landing_->note_written(offset, length);
    raise(offset, length, Page::open);
  }
  Result<> zero(std::uint64_t offset, std::uint64_t length) override {
    RAMFERRY_TRY(landing_->zero(offset, length));
    raise(offset, length, Page::zeroed);
    return {};
  }

  /// Stores what came of the pages [first, first + count), in lots that lie in a row. Any number of threads,
  /// with pages of their own.
  Result<> keep(StreamSaver& into, std::uint32_t number, std::size_t first, std::size_t count) const {
    std::vector<std::uint64_t> offsets;
    const std::size_t end = std::min(first + count, pages_.size());
    for (std::size_t page = first; page < end;) {
      const Page kind = pages_[page];
      const std::size_t begin = page;
      offsets.clear();
      for (; page < end && pages_[page] == kind; ++page) offsets.push_back(page * kPageBytes);
      const ConstBytes content = memory_.subspan(begin * kPageBytes, offsets.size() * kPageBytes);
      if (kind == Page::open) RAMFERRY_TRY(into.confirm_pages(number, offsets, content));
      if (kind == Page::zeroed) RAMFERRY_TRY(into.channel_zeros(number, offsets));
    }
    return {};
  }
  std::size_t pages() const noexcept { return pages_.size(); }

  /// Whether something was written to the pages [first, first + count). Any thread.
  bool was_written(std::size_t first, std::size_t count) const noexcept {
    const std::size_t end = std::min(first + count, pages_.size());
    for (std::size_t page = first; page < end; ++page) {
      if (pages_[page] != Page::open) continue;  // it is not touched yet, and shall not be
      if (!is_zero(memory_.subspan(page * kPageBytes, sizeof(std::uint64_t)))) return true;
    }
    return false;
  }
  /// Stores what is there now of the pages [first, first + count), from a copy, which nobody writes to while
  /// its checksum is taken. Any one thread.
  Result<> store_ahead(StreamSaver& into, std::uint32_t number, std::size_t first, std::size_t count) const {
    std::vector<std::uint64_t> offsets;
    std::vector<std::byte> copy;
    const std::size_t end = std::min(first + count, pages_.size());
    for (std::size_t page = first; page < end; ++page) {
      const ConstBytes content = memory_.subspan(page * kPageBytes, kPageBytes);
      if (pages_[page] != Page::open || is_zero(content)) continue;
      offsets.push_back(page * kPageBytes);
      copy.insert(copy.end(), content.begin(), content.end());
    }
    return offsets.empty() ? Result<>{} : into.store_ahead(number, offsets, copy);
  }

 private:
  enum class Page : std::uint8_t { missing, zeroed, open };

  explicit Block(std::uint64_t bytes) : pages_(bytes / kPageBytes) {}
  /// Pages that lie in the range, whole or in part.
  void raise(std::uint64_t offset, std::uint64_t length, Page to) noexcept {
    if (length == 0) return;
    const std::uint64_t last = (offset + length - 1) / kPageBytes;
    for (std::uint64_t page = offset / kPageBytes; page <= last; ++page)
      if (pages_[page] < to) pages_[page] = to;
  }

  Bytes memory_;
  std::optional<MemoryLanding> landing_;
  std::vector<std::atomic<Page>> pages_;  ///< raised by one thread
};

/// Goes through the blocks behind the source, which as a rule goes through them in order. Nothing depends on
/// its having been right.
class HookedRam::Ahead {
 public:
  Ahead(const std::vector<std::unique_ptr<Block>>& blocks, StreamSaver& into)
      : blocks_(blocks), into_(into), thread_([this] { run(); }) {}
  ~Ahead() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    stopping_.notify_all();
    thread_.join();
  }

 private:
  void run() {
    for (std::uint32_t block = 0; block < blocks_.size(); ++block) {
      const std::size_t pages = blocks_[block]->pages();
      std::size_t seen = 0;
      // The last lots, behind which nothing comes, are left to keep().
      for (std::size_t first = 0; first + kAhead < pages; first += kLotPages) {
        if (!await_later(*blocks_[block], first, seen)) return;
        // keep() stores what was not, and meets what goes wrong here again, unless it has passed.
        if (!blocks_[block]->store_ahead(into_, block, first, kLotPages)) return;
      }
    }
  }

  /// Until the source has been at some place behind the lot at `first`, and not just behind it; false to
  /// stop. `seen` is the farthest known.
  bool await_later(const Block& block, std::size_t first, std::size_t& seen) {
    while (seen < first + kAhead) {
      // Further and further away: it may leave out much of memory.
      for (std::size_t gap = kAhead; first + gap < block.pages(); gap *= 2) {
        if (block.was_written(first + gap, kLotPages)) seen = first + gap;
      }
      std::unique_lock lock(mutex_);
      if (seen < first + kAhead && stopping_.wait_for(lock, kLook, [this] { return stop_; })) return false;
    }
    return !is_over();
  }

  bool is_over() {
    const std::lock_guard lock(mutex_);
    return stop_;
  }

  const std::vector<std::unique_ptr<Block>>& blocks_;
  StreamSaver& into_;
  std::mutex mutex_;
  std::condition_variable stopping_;
  bool stop_ = false;
  std::thread thread_;
};

HookedRam::HookedRam(HookedStream& stream) : stream_(stream) {}
HookedRam::~HookedRam() = default;

Result<> HookedRam::begin(const std::vector<BlockInfo>& blocks, StreamSaver& into) {
  std::vector<Landing*> landings;
  for (const BlockInfo& info : blocks) {
    RAMFERRY_TRY_ASSIGN(auto block, Block::make(info));
    landings.push_back(block.get());
    blocks_.push_back(std::move(block));
  }
  RAMFERRY_TRY(stream_.land(std::move(landings)));
  if (std::thread::hardware_concurrency() < 2) return {};
  try {
    ahead_ = std::make_unique<Ahead>(blocks_, into);
  } catch (const std::system_error&) {
    // Then all of it is stored at the end.
  }
  return {};
}

/// On as many threads as there are processors, a lot at a time: the guest stands still meanwhile.
class HookedRam::Keeping {
 public:
  Keeping(const std::vector<std::unique_ptr<Block>>& blocks, StreamSaver& into)
      : blocks_(blocks), into_(into) {}

  Result<> run() {
    std::vector<std::thread> others;
    for (unsigned i = 1; i < std::clamp(std::thread::hardware_concurrency(), 1U, kMostKeepers); ++i)
      others.emplace_back([this] { work(); });
    work();
    for (std::thread& each : others) each.join();
    return std::move(result_);
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      while (block_ < blocks_.size() && next_ >= blocks_[block_]->pages()) ++block_, next_ = 0;
      if (block_ == blocks_.size() || !result_) return;
      const std::uint32_t block = block_;
      const std::size_t first = std::exchange(next_, next_ + kLotPages);
      lock.unlock();
      if (Result<> kept = blocks_[block]->keep(into_, block, first, kLotPages); !kept) {
        lock.lock();
        if (result_) result_ = std::move(kept);
      }
    }
  }

  const std::vector<std::unique_ptr<Block>>& blocks_;
  StreamSaver& into_;
  std::mutex mutex_;  ///< all below
  std::uint32_t block_ = 0;
  std::size_t next_ = 0;  ///< page of it
  Result<> result_;
};

Result<> HookedRam::keep(StreamSaver& into) {
  stream_.close_windows();
  ahead_.reset();
  return Keeping(blocks_, into).run();
}

}  // namespace ramferry::checkpoint
