// SPDX-License-Identifier: MIT
// The choice of a tracker. The trackers themselves: pagemap_scan_tracker.cpp, userfaultfd_tracker.cpp,
// reported_writes.cpp.
#include <ramferry/migration/dirty_tracker.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

namespace ramferry::migration {
namespace {

/// In order of preference.
constexpr std::array kKinds{TrackerKind::pagemap_scan, TrackerKind::userfaultfd};

Result<std::unique_ptr<DirtyTracker>> make(TrackerKind kind, const RamLayout& layout) {
  return kind == TrackerKind::userfaultfd ? make_userfaultfd_tracker(layout)
                                          : make_pagemap_scan_tracker(layout);
}

std::string_view name_of(TrackerKind kind) noexcept {
  return kind == TrackerKind::userfaultfd ? "userfaultfd" : "pagemap-scan";
}

/// A page that is unmapped in the end.
class TrialPage {
 public:
  TrialPage() noexcept
      : bytes_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        at_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  TrialPage(const TrialPage&) = delete;
  TrialPage& operator=(const TrialPage&) = delete;
  ~TrialPage() {
    if (mapped()) munmap(at_, bytes_);
  }
  bool mapped() const noexcept { return at_ != MAP_FAILED; }
  Bytes memory() const noexcept { return {static_cast<std::byte*>(at_), bytes_}; }

 private:
  std::size_t bytes_;
  void* at_;
};

/// Tracks a write to a page that was never touched, and that it was not written before.
Result<> try_out(TrackerKind kind) {
  const TrialPage page;
  if (!page.mapped()) return fail_errno(errno, "mapping a page for a trial");
  RAMFERRY_TRY_ASSIGN(const RamLayout layout,
                      RamLayout::make({{.name = "trial",
                                        .host = page.memory(),
                                        .backing = {.page_bytes = page.memory().size()},
                                        .page_bytes = page.memory().size()}}));
  RAMFERRY_TRY_ASSIGN(const auto tracker, make(kind, layout));
  DirtySet before(layout), after(layout);
  RAMFERRY_TRY(tracker->arm({0, 0, 1}));
  RAMFERRY_TRY(tracker->harvest(before));
  static_cast<volatile std::byte&>(page.memory()[0]) = std::byte{1};
  RAMFERRY_TRY(tracker->harvest(after));
  if (!before.empty() || after.pages() != 1)
    return fail(errc::unsupported, "a trial write was not seen as it should be",
                "this kernel's tracking is broken");
  return {};
}

}  // namespace

Result<> probe_tracker(TrackerKind kind) {
  if (kind != TrackerKind::automatic) {
    if (auto tried = try_out(kind); !tried)
      return within(std::move(tried).error(), "tracking by " + std::string(name_of(kind)));
    return {};
  }
  Result<> last;
  for (const TrackerKind candidate : kKinds)
    if ((last = probe_tracker(candidate))) break;
  return last;
}

Result<std::unique_ptr<DirtyTracker>> make_tracker(TrackerKind kind, const RamLayout& layout, Log& log) {
  for (const TrackerKind candidate : kKinds) {
    if (kind != TrackerKind::automatic && kind != candidate) continue;
    auto tracker = make(candidate, layout);
    const std::string name(name_of(candidate));
    if (tracker) {
      log.info("dirty pages are tracked by " + name);
      return tracker;
    }
    if (kind == candidate || candidate == kKinds.back())
      return within(std::move(tracker).error(), "tracking dirty pages by " + name);
    log.info("dirty pages cannot be tracked by " + name + ": " + tracker.error().message());
  }
  return fail(errc::invalid_argument, "choosing a dirty tracker");
}

}  // namespace ramferry::migration
