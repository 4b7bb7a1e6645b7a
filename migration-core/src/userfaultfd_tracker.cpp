// SPDX-License-Identifier: MIT
// Write protection whose faults a thread of ours takes: it marks the page, lifts the protection and lets the
// writer go.
//
// One mutex orders marks and protection: the fault thread marks and then unprotects under it, harvest takes
// marks and then protects under it. Otherwise harvest could take a mark whose page is unprotected only
// afterwards, and the write would go unseen. A page is therefore always protected, or marked, or both.
//
// Pages that were never touched are not protected, which would cost page tables: in private anonymous memory
// the first access to them, reads included, is reported as a fault of its own. In shared memory the kernel
// notes the protection in the empty page table entry: 2 MiB of page tables per GiB.
#include "host_pages.hpp"
#include "kernel_abi.hpp"
#include "memory_map.hpp"
#include "userfaultfd.hpp"

#include <ramferry/migration/dirty_tracker.hpp>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace ramferry::migration {
namespace {

constexpr std::size_t kFaultsAtOnce = 64;
constexpr std::size_t kRunsPerLock = 64;  // how long writers wait for a harvest, at most
constexpr std::uint64_t kGapPages = 8;    // protecting these again costs less than another system call

class UserfaultfdTracker final : public DirtyTracker {
 public:
  UserfaultfdTracker(const RamLayout& layout, RamLayout host_layout, Userfaultfd faults)
      : layout_(layout),
        host_layout_(std::move(host_layout)),
        faults_(std::move(faults)),
        armed_(layout),
        written_(host_layout_) {}
  ~UserfaultfdTracker() override { stop(); }

  Result<> watch_all();
  Result<> start_thread();

  std::string_view name() const noexcept override { return "userfaultfd"; }
  Result<> arm(const PageRun& run) override;
  Result<> harvest(DirtySet& into) override;
  void stop() noexcept override;

 private:
  // On the fault thread.
  void take_faults() noexcept;
  void serve(std::span<const uffd_msg> messages) noexcept;
  std::optional<PageRun> page_at(std::uint64_t address) const noexcept;
  void unprotect(std::span<PageRun> pages) noexcept;
  void check(Result<> done) noexcept;

  Result<> protect(std::span<const PageRun> runs);

  const RamLayout& layout_;
  const RamLayout host_layout_;  // the same blocks, in host pages
  Userfaultfd faults_;
  UniqueFd stop_event_;
  std::thread thread_;
  ArmedMemory armed_;
  std::vector<Userfaultfd::Untouched> untouched_;  // by block
  bool stopped_ = false;

  std::mutex mutex_;
  DirtySet written_;             // in host pages; all of them unprotected
  std::optional<Error> failed_;  // protection could not be lifted: tracking has ended
};

/// `next` does not begin before `run`.
bool follows(const PageRun& run, const PageRun& next, std::uint64_t gap) noexcept {
  return run.block == next.block && next.first <= run.first + run.count + gap;
}

Result<> UserfaultfdTracker::watch_all() {
  for (const RamBlock& block : layout_.blocks()) {
    if (auto watched = faults_.watch(block.host); !watched)
      return within(std::move(watched).error(), "tracking RAM block '" + block.name + "'");
    const bool small_pages = host_page_bytes(block) == static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    untouched_.push_back(small_pages && is_private_anonymous(block.host) ? Userfaultfd::Untouched::report
                                                                         : Userfaultfd::Untouched::leave);
  }
  return {};
}

Result<> UserfaultfdTracker::start_thread() {
  stop_event_.reset(eventfd(0, EFD_CLOEXEC));
  if (!stop_event_) return fail_errno(errno, "starting the thread that takes page faults");
  // The VMM's signal handlers must not run there: one that writes to guest memory would wait for itself.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::error_code error;
  try {
    thread_ = std::thread([this] { take_faults(); });
  } catch (const std::system_error& thrown) {
    error = thrown.code();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error) return fail(error, "starting the thread that takes page faults");
  return {};
}

Result<> UserfaultfdTracker::arm(const PageRun& run) {
  if (stopped_) return fail(errc::wrong_state, "arming a tracker that was stopped");
  const Bytes memory = host_pages(layout_, run);
  if (memory.empty()) return {};
  // Not before: a device registers memory by touching it, and must not have to wait for us.
  RAMFERRY_TRY(faults_.watch(memory, untouched_[run.block]));
  RAMFERRY_TRY(faults_.protect(memory));
  armed_.add(run.block, memory);
  return {};
}

Result<> UserfaultfdTracker::harvest(DirtySet& into) {
  std::vector<PageRun> runs;
  PageRun at{};
  do {
    runs.clear();
    {
      const std::lock_guard lock(mutex_);
      if (failed_) return Failure(*failed_);
      while (runs.size() < kRunsPerLock) {
        const auto run = written_.take(at.block, at.first, ~std::uint64_t{0});
        if (!run) break;
        runs.push_back(*run);
        at = {run->block, run->first + run->count, 0};
      }
      RAMFERRY_TRY(protect(runs));
    }
    for (const PageRun& run : runs) into.mark(pages_of(layout_, run.block, host_layout_.memory(run)));
  } while (runs.size() == kRunsPerLock);
  return {};
}

Result<> UserfaultfdTracker::protect(std::span<const PageRun> runs) {
  for (std::size_t i = 0; i < runs.size();) {
    PageRun whole = runs[i++];
    for (; i < runs.size() && follows(whole, runs[i], kGapPages); ++i) {
      const PageRun longer{whole.block, whole.first, runs[i].first + runs[i].count - whole.first};
      // Pages that nobody armed must stay writable: they may still be registered with a device.
      if (!armed_.contains(whole.block, host_layout_.memory(longer))) break;
      whole = longer;
    }
    RAMFERRY_TRY(faults_.protect(host_layout_.memory(whole)));
  }
  return {};
}

void UserfaultfdTracker::stop() noexcept {
  if (std::exchange(stopped_, true)) return;
  // While the thread still serves whoever waits already, let all others through.
  for (std::uint32_t block = 0; block < layout_.blocks().size(); ++block)
    for (const Bytes memory : armed_.of(block)) static_cast<void>(faults_.unprotect(memory));
  for (const RamBlock& block : layout_.blocks()) faults_.forget(block.host);
  if (thread_.joinable()) {
    eventfd_write(stop_event_.get(), 1);
    thread_.join();
  }
  faults_.close();
  armed_.clear();
}

void UserfaultfdTracker::take_faults() noexcept {
  std::array<uffd_msg, kFaultsAtOnce> messages;
  std::array<pollfd, 2> waits{{{faults_.fd(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}}};
  while (poll(waits.data(), waits.size(), -1) >= 0 || errno == EINTR) {
    if (waits[1].revents != 0) return;
    const ssize_t got = read(faults_.fd(), messages.data(), sizeof messages);
    if (got > 0) serve(std::span(messages).first(static_cast<std::size_t>(got) / sizeof messages[0]));
  }
}

void UserfaultfdTracker::serve(std::span<const uffd_msg> messages) noexcept {
  std::array<PageRun, kFaultsAtOnce> pages;
  std::size_t count = 0;
  const std::lock_guard lock(mutex_);
  for (const uffd_msg& message : messages) {
    if (message.event != UFFD_EVENT_PAGEFAULT) continue;
    const auto page = page_at(message.arg.pagefault.address);
    if (!page) continue;
    written_.mark(*page);
    if ((message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0)
      pages[count++] = *page;
    else
      check(faults_.fill_zero(host_layout_.memory(*page)));
  }
  unprotect(std::span(pages).first(count));
}

void UserfaultfdTracker::unprotect(std::span<PageRun> pages) noexcept {
  std::sort(pages.begin(), pages.end(), [](const PageRun& a, const PageRun& b) {
    return a.block != b.block ? a.block < b.block : a.first < b.first;
  });
  for (std::size_t i = 0; i < pages.size();) {
    PageRun whole = pages[i++];
    for (; i < pages.size() && follows(whole, pages[i], 0); ++i)
      whole.count = std::max(whole.count, pages[i].first + 1 - whole.first);
    check(faults_.unprotect(host_layout_.memory(whole)));
  }
}

std::optional<PageRun> UserfaultfdTracker::page_at(std::uint64_t address) const noexcept {
  for (std::uint32_t number = 0; number < host_layout_.blocks().size(); ++number) {
    const RamBlock& block = host_layout_[number];
    const auto begin =
        static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(block.host.data()));  // NOLINT
    if (address >= begin && address - begin < block.host.size())
      return PageRun{number, (address - begin) / block.page_bytes, 1};
  }
  return std::nullopt;
}

/// The guest must run on, whatever becomes of the migration.
void UserfaultfdTracker::check(Result<> done) noexcept {
  if (done) return;
  failed_ = std::move(done).error();
  for (const RamBlock& block : layout_.blocks()) {
    faults_.forget(block.host);
    faults_.wake(block.host);
  }
}

}  // namespace

Result<std::unique_ptr<DirtyTracker>> make_userfaultfd_tracker(const RamLayout& layout) {
  RAMFERRY_TRY(check_host_pages(layout));
  std::vector<RamBlock> blocks(layout.blocks().begin(), layout.blocks().end());
  for (RamBlock& block : blocks) block.page_bytes = host_page_bytes(block);
  RAMFERRY_TRY_ASSIGN(RamLayout host_layout, RamLayout::make(std::move(blocks)));
  RAMFERRY_TRY_ASSIGN(Userfaultfd faults,
                      Userfaultfd::open(Userfaultfd::Faults::handed_over, kernel::kWriteProtect,
                                        kernel::kWriteProtectShared));
  auto tracker = std::make_unique<UserfaultfdTracker>(layout, std::move(host_layout), std::move(faults));
  RAMFERRY_TRY(tracker->watch_all());
  RAMFERRY_TRY(tracker->start_thread());
  return tracker;
}

}  // namespace ramferry::migration
