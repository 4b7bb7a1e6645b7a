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

/// Memory that reads as zeros and takes none of this machine's until it is touched: how much it is, a peer
/// says.
class Room {
 public:
  static Result<Room> make(std::uint64_t bytes, const BlockInfo& block) {
    if (bytes == 0) return Room(Bytes());
    void* const at =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
      return fail_errno(errno,
                        "making room for RAM block '" + block.name + "' of " + format_size(block.bytes),
                        "receive it on a machine with more memory, or over tcp:");
    static_cast<void>(::madvise(at, bytes, MADV_DONTFORK));
    return Room(Bytes(static_cast<std::byte*>(at), bytes));
  }
  Room(Room&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Room& operator=(Room&&) = delete;
  ~Room() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }
  Bytes bytes() const noexcept { return bytes_; }

 private:
  explicit Room(Bytes bytes) : bytes_(bytes) {}
  Bytes bytes_;
};

/// A RAM block's memory, and what is known of its pages.
class HookedRam::Block final : public Landing {
 public:
  static Result<std::unique_ptr<Block>> make(const BlockInfo& info) {
    RAMFERRY_TRY_ASSIGN(Room memory, Room::make(info.bytes, info));
    RAMFERRY_TRY_ASSIGN(Room pages, Room::make(info.bytes / kPageBytes, info));
    return std::unique_ptr<Block>(new Block(std::move(memory), std::move(pages)));
  }

  std::uint64_t size() const noexcept override { return memory_.size(); }
  Bytes window(std::uint64_t offset, std::uint64_t length) noexcept override {
    return landing_.window(offset, length);
  }
  void note_written(std::uint64_t offset, std::uint64_t length) noexcept override {
    landing_.note_written(offset, length);
    raise(offset, length, Page::open);
  }
  Result<> zero(std::uint64_t offset, std::uint64_t length) override {
    RAMFERRY_TRY(landing_.zero(offset, length));
    raise(offset, length, Page::zeroed);
    return {};
  }

  /// Stores what came of the pages [first, first + count), in lots that lie in a row. Any number of threads,
  /// with pages of their own.
  Result<> keep(StreamSaver& into, std::uint32_t number, std::size_t first, std::size_t count) const {
    std::vector<std::uint64_t> offsets;
    const std::size_t end = std::min(first + count, pages());
    for (std::size_t page = first; page < end;) {
      const Page kind = what_is(page);
      const std::size_t begin = page;
      offsets.clear();
      for (; page < end && what_is(page) == kind; ++page) offsets.push_back(page * kPageBytes);
      const ConstBytes content = memory_.subspan(begin * kPageBytes, offsets.size() * kPageBytes);
      if (kind == Page::open) RAMFERRY_TRY(into.confirm_pages(number, offsets, content));
      if (kind == Page::zeroed) RAMFERRY_TRY(into.channel_zeros(number, offsets));
    }
    return {};
  }
  std::size_t pages() const noexcept { return pages_.bytes().size(); }

  /// Whether something was written to the pages [first, first + count). Any thread.
  bool was_written(std::size_t first, std::size_t count) const noexcept {
    const std::size_t end = std::min(first + count, pages());
    for (std::size_t page = first; page < end; ++page) {
      if (what_is(page) != Page::open) continue;  // it is not touched yet, and shall not be
      if (!is_zero(memory_.subspan(page * kPageBytes, sizeof(std::uint64_t)))) return true;
    }
    return false;
  }
  /// Stores what is there now of the pages [first, first + count), from a copy, which nobody writes to while
  /// its checksum is taken. Any one thread.
  Result<> store_ahead(StreamSaver& into, std::uint32_t number, std::size_t first, std::size_t count) const {
    std::vector<std::uint64_t> offsets;
    std::vector<std::byte> copy;
    const std::size_t end = std::min(first + count, pages());
    for (std::size_t page = first; page < end; ++page) {
      const ConstBytes content = memory_.subspan(page * kPageBytes, kPageBytes);
      if (what_is(page) != Page::open || is_zero(content)) continue;
      offsets.push_back(page * kPageBytes);
      copy.insert(copy.end(), content.begin(), content.end());
    }
    return offsets.empty() ? Result<>{} : into.store_ahead(number, offsets, copy);
  }

 private:
  enum class Page : std::uint8_t { missing, zeroed, open };  // missing: as room is that nobody touched

  Block(Room memory, Room pages)
      : room_(std::move(memory)),
        pages_(std::move(pages)),
        memory_(room_.bytes()),
        landing_(memory_, MemoryLanding::Content::blank) {}
  std::atomic_ref<std::byte> mark_of(std::size_t page) const noexcept {
    return std::atomic_ref(pages_.bytes()[page]);
  }
  Page what_is(std::size_t page) const noexcept { return static_cast<Page>(mark_of(page).load()); }
  /// Pages that lie in the range, whole or in part.
  void raise(std::uint64_t offset, std::uint64_t length, Page to) noexcept {
    if (length == 0) return;
    const std::uint64_t last = (offset + length - 1) / kPageBytes;
    for (std::uint64_t page = offset / kPageBytes; page <= last; ++page)
      if (what_is(page) < to) mark_of(page).store(static_cast<std::byte>(to));
  }

  Room room_, pages_;  ///< the marks are raised by one thread
  Bytes memory_;
  MemoryLanding landing_;
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
    others.reserve(kMostKeepers);
    try {
      for (unsigned i = 1; i < std::clamp(std::thread::hardware_concurrency(), 1U, kMostKeepers); ++i)
        others.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // Then those there are do it all, this one at least.
    }
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
