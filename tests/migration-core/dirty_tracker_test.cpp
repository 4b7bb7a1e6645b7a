// SPDX-License-Identifier: MIT
#include "test_memory.hpp"

#include <ramferry/migration/dirty_tracker.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ramferry::migration {
namespace {

using test::kPage;
using test::Memory;

constexpr std::uint64_t kPages = 2048;  // four pieces of 2 MiB

RAMFERRY_RACES_ON_PURPOSE void guest_write(const Memory& memory, std::uint64_t page,
                                           std::byte value = std::byte{1}) {
  static_cast<volatile std::byte&>(memory.page(page)[page % kPage]) = value;
}

std::byte guest_read(const Memory& memory, std::uint64_t page) {
  return static_cast<const volatile std::byte&>(memory.page(page)[page % kPage]);
}

std::vector<PageRun> runs_of(DirtySet set) {
  std::vector<PageRun> runs;
  while (const auto run = set.take(0, 0, ~std::uint64_t{0})) runs.push_back(*run);
  return runs;
}

std::vector<PageRun> harvest(DirtyTracker& tracker, const RamLayout& layout) {
  DirtySet dirty(layout);
  const auto harvested = tracker.harvest(dirty);
  EXPECT_TRUE(harvested) << harvested.error().message();
  return runs_of(std::move(dirty));
}

bool covers(const std::vector<PageRun>& runs, std::uint64_t page) {
  return std::any_of(runs.begin(), runs.end(),
                     [&](const PageRun& run) { return run.first <= page && page < run.first + run.count; });
}

using Runs = std::vector<PageRun>;

enum class Kind { anonymous, huge_advised, memfd, memfd_private, shared_anonymous };

struct Case {
  TrackerKind tracker;
  Kind memory;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const std::array kinds{"anonymous", "huge_advised", "memfd", "memfd_private", "shared_anonymous"};
  return std::string(info.param.tracker == TrackerKind::userfaultfd ? "userfaultfd_" : "pagemap_scan_") +
         kinds[static_cast<std::size_t>(info.param.memory)];
}

Memory make_memory(Kind kind) {
  switch (kind) {
    case Kind::anonymous: break;
    case Kind::huge_advised: {
      Memory memory = Memory::anonymous(kPages * kPage);
      madvise(memory.bytes().data(), memory.bytes().size(), MADV_HUGEPAGE);
      return memory;
    }
    case Kind::memfd: return Memory::memfd(kPages * kPage);
    case Kind::memfd_private: return Memory::memfd_private(kPages * kPage);
    case Kind::shared_anonymous: return Memory::shared_anonymous(kPages * kPage);
  }
  return Memory::anonymous(kPages * kPage);
}

class PageTableTracker : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto able = probe_tracker(GetParam().tracker); !able) GTEST_SKIP() << able.error().message();
    tracker_ = start(layout_);
  }
  static std::unique_ptr<DirtyTracker> start(const RamLayout& layout) {
    NullLog log;
    auto tracker = make_tracker(GetParam().tracker, layout, log);
    EXPECT_TRUE(tracker) << tracker.error().message();
    return std::move(tracker).value();
  }
  void arm(std::uint64_t first, std::uint64_t count) {
    const auto armed = tracker_->arm({0, first, count});
    ASSERT_TRUE(armed) << armed.error().message();
  }
  Runs harvest() { return migration::harvest(*tracker_, layout_); }
  bool huge() const { return GetParam().memory == Kind::huge_advised; }

  Memory memory_ = make_memory(GetParam().memory);
  RamLayout layout_ = memory_.layout();
  std::unique_ptr<DirtyTracker> tracker_;
};

TEST_P(PageTableTracker, ReportsNothingThatWasNotWritten) {
  guest_write(memory_, 3);
  arm(0, kPages);
  EXPECT_EQ(harvest(), Runs{}) << "written before it was armed";
}

TEST_P(PageTableTracker, ReportsAPageWrittenAgain) {
  for (std::uint64_t page = 0; page < kPages; ++page) guest_write(memory_, page);
  arm(0, kPages);
  guest_write(memory_, 7, std::byte{2});
  guest_write(memory_, 600, std::byte{2});
  guest_write(memory_, 601, std::byte{2});
  const Runs runs = harvest();
  EXPECT_TRUE(covers(runs, 7) && covers(runs, 600) && covers(runs, 601));
  if (!huge()) {
    EXPECT_EQ(runs, (Runs{{0, 7, 1}, {0, 600, 2}}));
  }
}

TEST_P(PageTableTracker, ReportsAPageFirstTouchedAfterwards) {
  arm(0, kPages);
  EXPECT_EQ(harvest(), Runs{});
  guest_write(memory_, 700);
  EXPECT_TRUE(covers(harvest(), 700));
  guest_write(memory_, 701);
  guest_write(memory_, 0);
  const Runs runs = harvest();
  EXPECT_TRUE(covers(runs, 701));
  EXPECT_TRUE(covers(runs, 0));
}

TEST_P(PageTableTracker, ReportsEachWriteOnce) {
  arm(0, kPages);
  guest_write(memory_, 700);
  EXPECT_TRUE(covers(harvest(), 700));
  EXPECT_EQ(harvest(), Runs{}) << "the mark was cleared";
  guest_write(memory_, 700, std::byte{2});
  EXPECT_TRUE(covers(harvest(), 700)) << "and set again";
}

TEST_P(PageTableTracker, SeesAWriteAfterARead) {
  arm(0, kPages);
  EXPECT_EQ(guest_read(memory_, 900), std::byte{0});
  harvest();
  guest_write(memory_, 900);
  EXPECT_TRUE(covers(harvest(), 900));
}

TEST_P(PageTableTracker, SeesWritesOfSystemCalls) {
  guest_write(memory_, 20);
  arm(0, kPages);
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const UniqueFd from(ends[0]), to(ends[1]);
  const std::vector<std::byte> sent(2 * kPage, std::byte{9});
  for (int again = 0; again < 2; ++again) {
    ASSERT_EQ(write(to.get(), sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
    ASSERT_EQ(read(from.get(), memory_.page(20).data(), sent.size()), static_cast<ssize_t>(sent.size()));
    const Runs runs = harvest();
    EXPECT_TRUE(covers(runs, 20)) << "touched before";
    EXPECT_TRUE(covers(runs, 21)) << "untouched before";
  }
  EXPECT_EQ(memory_.page(21)[5], std::byte{9});
}

TEST_P(PageTableTracker, LetsSystemCallsReadUntouchedMemory) {
  arm(0, kPages);
  const Memory file = Memory::memfd(kPage);
  ASSERT_EQ(pwrite(file.fd(), memory_.page(30).data(), kPage, 0), static_cast<ssize_t>(kPage));
}

TEST_P(PageTableTracker, LooksAtArmedMemoryOnly) {
  for (std::uint64_t page = 0; page < kPages; ++page) guest_write(memory_, page);
  arm(512, 512);
  arm(1536, 100);
  guest_write(memory_, 511, std::byte{2});
  guest_write(memory_, 512, std::byte{2});
  guest_write(memory_, 1024, std::byte{2});
  guest_write(memory_, 1635, std::byte{2});
  guest_write(memory_, 1636, std::byte{2});
  const Runs runs = harvest();
  EXPECT_TRUE(covers(runs, 512) && covers(runs, 1635));
  EXPECT_FALSE(covers(runs, 511) || covers(runs, 1024) || covers(runs, 1636));
}

TEST_P(PageTableTracker, MayBeArmedPieceByPieceAndAgain) {
  for (std::uint64_t first = 0; first < kPages; first += 128) {
    guest_write(memory_, first);
    arm(first, 128);
    guest_write(memory_, first + 1);
  }
  arm(100, 1000);
  Runs runs = harvest();
  for (std::uint64_t first = 0; first < 100; first += 128) EXPECT_TRUE(covers(runs, first + 1)) << first;
  arm(0, 1);
  EXPECT_EQ(harvest(), Runs{});
  for (std::uint64_t page = 0; page < kPages; page += 64) guest_write(memory_, page, std::byte{2});
  runs = harvest();
  for (std::uint64_t page = 0; page < kPages; page += 64) EXPECT_TRUE(covers(runs, page)) << page;
}

TEST_P(PageTableTracker, TakesEveryOtherPage) {
  for (std::uint64_t page = 0; page < kPages; ++page) guest_write(memory_, page);
  arm(0, kPages);
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t page = 0; page < kPages; page += 2) guest_write(memory_, page, std::byte(round));
    const Runs runs = harvest();
    for (std::uint64_t page = 0; page < kPages; page += 2) ASSERT_TRUE(covers(runs, page)) << page;
    if (!huge()) {
      ASSERT_EQ(runs.size(), kPages / 2);
    }
  }
}

TEST_P(PageTableTracker, CountsInTargetPages) {
  RamBlock block = memory_.block();
  block.page_bytes = 4 * kPage;
  const RamLayout layout = RamLayout::make({block}).value();
  for (std::uint64_t page = 0; page < kPages; ++page) guest_write(memory_, page);
  tracker_.reset();
  const auto tracker = start(layout);
  ASSERT_TRUE(tracker->arm({0, 0, kPages / 4}));
  guest_write(memory_, 9, std::byte{2});
  guest_write(memory_, 10, std::byte{2});
  const Runs runs = migration::harvest(*tracker, layout);
  EXPECT_TRUE(covers(runs, 2));
  if (!huge()) {
    EXPECT_EQ(runs, (Runs{{0, 2, 1}}));
  }
}

TEST_P(PageTableTracker, ReachesAcrossMappings) {
  madvise(memory_.page(512).data(), 512 * kPage, MADV_DONTDUMP);  // splits the mapping in three
  for (std::uint64_t page = 0; page < kPages; page += 8) guest_write(memory_, page);
  arm(0, kPages);
  for (std::uint64_t page = 0; page < kPages; page += 8) guest_write(memory_, page, std::byte{2});
  const Runs runs = harvest();
  for (std::uint64_t page = 0; page < kPages; page += 8) EXPECT_TRUE(covers(runs, page)) << page;
  EXPECT_EQ(harvest(), Runs{});
}

TEST_P(PageTableTracker, SeesWritesWhileAChildHoldsACopy) {
  for (std::uint64_t page = 0; page < kPages; ++page) guest_write(memory_, page);
  arm(0, kPages);
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    char end = 0;
    close(ends[1]);
    static_cast<void>(read(ends[0], &end, 1));
    _exit(0);
  }
  guest_write(memory_, 5, std::byte{2});
  EXPECT_TRUE(covers(harvest(), 5));
  guest_write(memory_, 5, std::byte{3});
  EXPECT_TRUE(covers(harvest(), 5));
  close(ends[1]);
  close(ends[0]);
  waitpid(child, nullptr, 0);
}

TEST_P(PageTableTracker, LeavesMemoryWritableAfterStop) {
  guest_write(memory_, 1);
  arm(0, kPages);
  tracker_->stop();
  tracker_->stop();
  guest_write(memory_, 1, std::byte{2});
  guest_write(memory_, 2, std::byte{2});
  EXPECT_EQ(guest_read(memory_, 1), std::byte{2});
  EXPECT_EQ(harvest(), Runs{});
  const auto armed = tracker_->arm({0, 0, 1});
  ASSERT_FALSE(armed);
  EXPECT_TRUE(armed.error().is(errc::wrong_state));
}

/// Threads that write all the time, so that some wait in a page fault at any moment.
TEST_P(PageTableTracker, LetsWritersGoWhenItStops) {
  const int times = test::long_run() ? 2000 : 30;
  std::atomic<bool> done{false};
  std::vector<std::thread> writers;
  for (std::uint64_t writer = 0; writer < 3; ++writer)
    writers.emplace_back([&, writer] {
      for (std::uint64_t i = 0; !done; ++i) guest_write(memory_, (i * 7 + writer) % kPages);
    });
  for (int time = 0; time < times; ++time) {
    ASSERT_TRUE(tracker_->arm({0, 0, kPages}));
    if (time % 2 == 0) harvest();
    tracker_->stop();
    tracker_ = start(layout_);
  }
  tracker_.reset();
  done = true;
  for (std::thread& writer : writers) writer.join();  // hangs if one still waits
}

TEST_P(PageTableTracker, AllocatesNothingByArmingAndHarvesting) {
  const std::uint64_t before = test::resident_bytes(memory_.bytes());
  arm(0, kPages);
  harvest();
  EXPECT_EQ(test::resident_bytes(memory_.bytes()), before);
}

constexpr TrackerKind kScan = TrackerKind::pagemap_scan, kFaults = TrackerKind::userfaultfd;
INSTANTIATE_TEST_SUITE_P(Each, PageTableTracker,
                         testing::Values(Case{kScan, Kind::anonymous}, Case{kScan, Kind::huge_advised},
                                         Case{kScan, Kind::memfd}, Case{kScan, Kind::memfd_private},
                                         Case{kScan, Kind::shared_anonymous}, Case{kFaults, Kind::anonymous},
                                         Case{kFaults, Kind::huge_advised}, Case{kFaults, Kind::memfd},
                                         Case{kFaults, Kind::memfd_private},
                                         Case{kFaults, Kind::shared_anonymous}),
                         name_of);

/// Huge pages of hugetlbfs are protected, and reported, whole.
class HugePages : public testing::TestWithParam<TrackerKind> {};

TEST_P(HugePages, AreReportedWhole) {
  constexpr std::uint64_t kHuge = 512 * kPage;
  const auto memory = Memory::huge(4 * kHuge);
  if (!memory) GTEST_SKIP() << "no free huge pages (echo 8 > /proc/sys/vm/nr_hugepages)";
  if (const auto able = probe_tracker(GetParam()); !able) GTEST_SKIP() << able.error().message();
  RamBlock block = memory->block();
  block.backing.page_bytes = kHuge;
  const RamLayout layout = RamLayout::make({block}).value();
  NullLog log;
  const auto tracker = make_tracker(GetParam(), layout, log);
  ASSERT_TRUE(tracker) << tracker.error().message();
  guest_write(*memory, 0);
  ASSERT_TRUE((*tracker)->arm({0, 100, 1}));
  ASSERT_TRUE((*tracker)->arm({0, 512, 1024}));
  EXPECT_EQ(harvest(**tracker, layout), Runs{});
  guest_write(*memory, 3);
  guest_write(*memory, 700);
  EXPECT_EQ(harvest(**tracker, layout), (Runs{{0, 0, 1024}}));
  guest_write(*memory, 3);
  guest_write(*memory, 2000);
  EXPECT_EQ(harvest(**tracker, layout), (Runs{{0, 0, 512}})) << "the last huge page was not armed";
  (*tracker)->stop();
  guest_write(*memory, 700, std::byte{2});
}

INSTANTIATE_TEST_SUITE_P(Each, HugePages, testing::Values(kScan, kFaults));

TEST(MarkedWrites, ReportWholePagesOnce) {
  const Memory memory = Memory::anonymous(200 * kPage);
  const RamLayout layout = memory.layout();
  MarkedWrites marks(layout);
  EXPECT_EQ(harvest(marks, layout), Runs{});
  marks.mark(0, 5 * kPage - 1, 2);
  marks.mark(0, 60 * kPage, 70 * kPage);
  marks.mark(0, 10 * kPage, 0);
  EXPECT_EQ(harvest(marks, layout), (Runs{{0, 4, 2}, {0, 60, 70}}));
  EXPECT_EQ(harvest(marks, layout), Runs{});
}

TEST(MarkedWrites, IgnoreWhatIsOutside) {
  const Memory memory = Memory::anonymous(70 * kPage);
  const RamLayout layout = memory.layout();
  MarkedWrites marks(layout);
  marks.mark(0, 69 * kPage, 1000 * kPage);
  marks.mark(0, 70 * kPage, 1);
  marks.mark(0, ~std::uint64_t{0}, ~std::uint64_t{0});
  marks.mark(1, 0, kPage);
  EXPECT_EQ(harvest(marks, layout), (Runs{{0, 69, 1}}));
}

TEST(MarkedWrites, AreNeverLostBetweenThreads) {
  constexpr std::uint64_t kMarkers = 3, kEach = 20000;
  const Memory memory = Memory::anonymous(kMarkers * kEach * kPage);
  const RamLayout layout = memory.layout();
  MarkedWrites marks(layout);
  std::atomic<std::uint64_t> running{kMarkers};
  std::vector<std::thread> markers;
  for (std::uint64_t marker = 0; marker < kMarkers; ++marker)
    markers.emplace_back([&, marker] {
      for (std::uint64_t i = 0; i < kEach; ++i) marks.mark(0, (i * kMarkers + marker) * kPage, 1);
      --running;
    });
  DirtySet all(layout);
  std::uint64_t reported = 0;
  while (running > 0) {
    DirtySet some(layout);
    ASSERT_TRUE(marks.harvest(some));
    reported += some.pages();
    all.merge(some);
  }
  for (std::thread& marker : markers) marker.join();
  DirtySet rest(layout);
  ASSERT_TRUE(marks.harvest(rest));
  reported += rest.pages();
  all.merge(rest);
  EXPECT_EQ(all.pages(), layout.pages());
  EXPECT_EQ(reported, layout.pages()) << "each mark is reported once";
}

TEST(VmmLogTracker, AsksTheVmmAndStopsItOnce) {
  const Memory memory = Memory::anonymous(10 * kPage);
  const RamLayout layout = memory.layout();
  Runs armed;
  int stops = 0;
  {
    const auto tracker = make_vmm_log_tracker({.arm =
                                                   [&](const PageRun& run) {
                                                     armed.push_back(run);
                                                     return Result<>();
                                                   },
                                               .harvest =
                                                   [](DirtySet& into) {
                                                     into.mark({0, 4, 2});
                                                     return Result<>();
                                                   },
                                               .stop = [&] { ++stops; }});
    ASSERT_TRUE(tracker->arm({0, 0, 10}));
    EXPECT_EQ(armed, (Runs{{0, 0, 10}}));
    EXPECT_EQ(harvest(*tracker, layout), (Runs{{0, 4, 2}}));
    EXPECT_EQ(tracker->name(), "vmm-log");
    tracker->stop();
  }
  EXPECT_EQ(stops, 1);
}

TEST(MergedTracker, ReportsWhatAnyPartSaw) {
  const Memory memory = Memory::memfd(10 * kPage);
  const RamLayout layout = memory.layout();
  NullLog log;
  const auto tables = make_tracker(TrackerKind::automatic, layout, log);
  if (!tables) GTEST_SKIP() << tables.error().message();
  MarkedWrites marks(layout);
  const auto tracker = merge_trackers({tables->get(), &marks});
  EXPECT_EQ(tracker->name(), std::string((*tables)->name()) + "+marked");
  for (std::uint64_t page = 0; page < 10; ++page) guest_write(memory, page);
  ASSERT_TRUE(tracker->arm({0, 0, 10}));
  guest_write(memory, 2);
  // A second mapping: page tables of the first do not see it, so its owner says so.
  void* const second = mmap(nullptr, 10 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd(), 0);
  ASSERT_NE(second, MAP_FAILED);
  static_cast<char*>(second)[6 * kPage] = 1;
  marks.mark(0, 6 * kPage, 1);
  EXPECT_EQ(harvest(*tracker, layout), (Runs{{0, 2, 1}, {0, 6, 1}}));
  munmap(second, 10 * kPage);
  tracker->stop();
  guest_write(memory, 3);
  EXPECT_EQ(harvest(*tracker, layout), Runs{});
}

TEST(MergedTracker, TellsWhenAPartFails) {
  const auto broken =
      make_vmm_log_tracker({.arm = [](const PageRun&) { return Result<>(fail(errc::io, "arming")); },
                            .harvest = [](DirtySet&) { return Result<>(fail(errc::io, "asking")); },
                            .stop = [] {}});
  const Memory memory = Memory::anonymous(kPage);
  const RamLayout layout = memory.layout();
  MarkedWrites marks(layout);
  const auto tracker = merge_trackers({&marks, broken.get()});
  DirtySet dirty(layout);
  EXPECT_FALSE(tracker->arm({0, 0, 1}));
  EXPECT_FALSE(tracker->harvest(dirty));
}

class RecordingLog final : public Log {
 public:
  bool wants(LogLevel /*level*/) const noexcept override { return true; }
  void write(LogLevel level, std::string_view line) noexcept override {
    const std::lock_guard lock(mutex_);
    text_.append(to_string(level)).append(": ").append(line).append("\n");
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  std::string text_;
};

TEST(MakeTracker, SaysWhichOneItChose) {
  const Memory memory = Memory::anonymous(kPage);
  const RamLayout layout = memory.layout();
  RecordingLog log;
  const auto tracker = make_tracker(TrackerKind::automatic, layout, log);
  if (!tracker) GTEST_SKIP() << tracker.error().message();
  EXPECT_NE(log.text().find("info: dirty pages are tracked by " + std::string((*tracker)->name())),
            std::string::npos)
      << log.text();
}

TEST(MakeTracker, SaysWhyNotTheOneBefore) {
  if (const auto able = probe_tracker(kFaults); !able) GTEST_SKIP() << able.error().message();
  // Memory that another tracker holds can be taken by neither; the log tells about the first, the error about
  // the last.
  const Memory memory = Memory::anonymous(kPage);
  const RamLayout layout = memory.layout();
  RecordingLog log;
  const auto holder = make_tracker(TrackerKind::userfaultfd, layout, log);
  ASSERT_TRUE(holder);
  const auto tracker = make_tracker(TrackerKind::automatic, layout, log);
  ASSERT_FALSE(tracker);
  EXPECT_NE(log.text().find("info: dirty pages cannot be tracked by pagemap-scan: "), std::string::npos)
      << log.text();
  EXPECT_NE(tracker.error().message().find("by userfaultfd: "), std::string::npos)
      << tracker.error().message();
}

TEST(MakeTracker, NamesTheBlockThatCannotBeTracked) {
  const Memory free = Memory::anonymous(kPage), held = Memory::anonymous(kPage);
  const RamLayout both = RamLayout::make({free.block("free"), held.block("held")}).value();
  const RamLayout one = held.layout();
  NullLog log;
  for (const TrackerKind kind : {kScan, kFaults}) {
    if (!probe_tracker(kind)) continue;
    const auto holder = make_tracker(kind, one, log);
    ASSERT_TRUE(holder);
    const auto tracker = make_tracker(kind, both, log);
    ASSERT_FALSE(tracker);
    EXPECT_NE(tracker.error().message().find("RAM block 'held'"), std::string::npos)
        << tracker.error().message();
    EXPECT_TRUE(tracker.error().is(errc::in_use));
  }
}

/// Without privilege, in a process of its own: exit status 0 if it works, 1 if permission is missing, else 2.
int unprivileged(TrackerKind kind) {
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(65534, 65534, 65534) != 0) _exit(3);
    prctl(PR_SET_DUMPABLE, 1);  // as in a process that was started without privilege
    const auto able = probe_tracker(kind);
    if (!able && able.error().advice.empty()) _exit(4);
    _exit(able ? 0 : able.error().is(errc::permission) ? 1 : 2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ProbeTracker, NeedsNoPrivilegeForPagemapScan) {
  if (geteuid() != 0) GTEST_SKIP() << "run as root, to be able to give it up";
  if (const auto able = probe_tracker(kScan); !able) GTEST_SKIP() << able.error().message();
  EXPECT_EQ(unprivileged(kScan), 0);
}

TEST(ProbeTracker, SaysThatUserfaultfdNeedsPermission) {
  if (geteuid() != 0) GTEST_SKIP() << "run as root, to be able to give it up";
  if (const auto able = probe_tracker(kFaults); !able) GTEST_SKIP() << able.error().message();
  if (access("/proc/sys/vm/unprivileged_userfaultfd", R_OK) != 0)
    GTEST_SKIP() << "cannot tell what is allowed";
  const UniqueFd setting(open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY));
  char allowed = '0';
  ASSERT_EQ(read(setting.get(), &allowed, 1), 1);
  EXPECT_EQ(unprivileged(kFaults), allowed == '1' ? 0 : 1);
}

}  // namespace
}  // namespace ramferry::migration
