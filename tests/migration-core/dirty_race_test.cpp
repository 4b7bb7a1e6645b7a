// SPDX-License-Identifier: MIT
// Invariant 1: a page that is dirtied while it is sent is never lost. The same harness must catch trackers
// that lose marks: one that clears them after the page was read, and one that forgets a single one.
#include "dirty_race.hpp"

#include "test_memory.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

namespace ramferry::migration {
namespace {

using test::DirtyRace;
using test::kPage;
using test::Memory;
using test::Writer;

constexpr std::uint64_t kPages = 64;

enum class Kind { anonymous, huge_advised, memfd };

Memory make_memory(Kind kind) {
  if (kind == Kind::memfd) return Memory::memfd(kPages * kPage);
  Memory memory = Memory::anonymous(kPages * kPage);
  if (kind == Kind::huge_advised) madvise(memory.bytes().data(), memory.bytes().size(), MADV_HUGEPAGE);
  return memory;
}

std::unique_ptr<DirtyTracker> start(TrackerKind kind, const RamLayout& layout) {
  NullLog log;
  return make_tracker(kind, layout, log).value();
}

using Case = std::tuple<TrackerKind, Kind, Writer>;

class DirtyRaceTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto able = probe_tracker(kind()); !able) GTEST_SKIP() << able.error().message();
  }
  TrackerKind kind() const { return std::get<0>(GetParam()); }
  Writer writer() const { return std::get<2>(GetParam()); }
};

TEST_P(DirtyRaceTest, LosesNoWrite) {
  const std::uint64_t episodes = test::long_run() ? 100 : 5;
  for (std::uint64_t seed = 1; seed <= episodes; ++seed) {
    const Memory memory = make_memory(std::get<1>(GetParam()));
    DirtyRace race(memory);
    const auto tracker = start(kind(), race.layout());
    ASSERT_EQ(race.run(*tracker, {.writer = writer(), .rounds = 250, .seed = seed}), 0U) << "seed " << seed;
    ASSERT_GE(race.copied(), 250U);
    tracker->stop();
  }
}

/// Breaks the order: what was reported is read while its mark still stands, and the mark is cleared
/// afterwards, together with that of any write in between.
class ClearsAfterReading final : public DirtyTracker {
 public:
  ClearsAfterReading(std::unique_ptr<DirtyTracker> real, const RamLayout& layout)
      : real_(std::move(real)), layout_(layout), read_(layout) {}
  std::string_view name() const noexcept override { return "clears-after-reading"; }
  Result<> arm(const PageRun& run) override { return real_->arm(run); }
  Result<> harvest(DirtySet& into) override {
    DirtySet marked(layout_);
    RAMFERRY_TRY(real_->harvest(marked));
    while (const auto run = read_.take(0, 0, layout_.pages())) marked.clear(*run);
    read_ = marked;
    into.merge(marked);
    return {};
  }
  void stop() noexcept override { real_->stop(); }

 private:
  std::unique_ptr<DirtyTracker> real_;
  const RamLayout& layout_;
  DirtySet read_;  // reported last time, and read since
};

TEST_P(DirtyRaceTest, CatchesATrackerThatClearsAfterReading) {
  std::uint64_t wrong = 0;
  for (std::uint64_t seed = 1; wrong == 0 && seed <= 200; ++seed) {
    const Memory memory = make_memory(std::get<1>(GetParam()));
    DirtyRace race(memory);
    ClearsAfterReading tracker(start(kind(), race.layout()), race.layout());
    wrong = race.run(tracker, {.writer = writer(), .rounds = 50, .seed = seed});
    tracker.stop();
  }
  EXPECT_GT(wrong, 0U) << "the race never happened";
}

/// Drops one page of each harvest and makes up for it in the next: only the one of the last stays lost.
class ForgetsOne final : public DirtyTracker {
 public:
  ForgetsOne(std::unique_ptr<DirtyTracker> real, const RamLayout& layout)
      : real_(std::move(real)), layout_(layout) {}
  std::string_view name() const noexcept override { return "forgets-one"; }
  Result<> arm(const PageRun& run) override { return real_->arm(run); }
  Result<> harvest(DirtySet& into) override {
    DirtySet marked(layout_);
    RAMFERRY_TRY(real_->harvest(marked));
    const auto made_up = std::exchange(forgotten_, marked.take(0, 0, 1));
    if (made_up) into.mark(*made_up);
    into.merge(marked);
    return {};
  }
  void stop() noexcept override { real_->stop(); }

 private:
  std::unique_ptr<DirtyTracker> real_;
  const RamLayout& layout_;
  std::optional<PageRun> forgotten_;
};

TEST_P(DirtyRaceTest, CatchesALostMark) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const Memory memory = make_memory(std::get<1>(GetParam()));
    DirtyRace race(memory);
    ForgetsOne tracker(start(kind(), race.layout()), race.layout());
    const std::uint64_t wrong = race.run(tracker, {.writer = writer(), .rounds = 5, .seed = seed});
    tracker.stop();
    // Nothing is wrong when the page, though marked, was copied after its last byte had been written.
    ASSERT_LE(wrong, 1U);
    if (wrong == 1) return;
  }
  FAIL() << "the lost mark was not caught";
}

std::string name_of(const testing::TestParamInfo<Case>& test_case) {
  const auto& [tracker, memory, writer] = test_case.param;
  std::string name = tracker == TrackerKind::userfaultfd ? "userfaultfd" : "pagemap_scan";
  name += memory == Kind::memfd ? "_memfd" : memory == Kind::anonymous ? "_anonymous" : "_huge_advised";
  return name + (writer == Writer::store ? "_stores" : "_system_calls");
}

INSTANTIATE_TEST_SUITE_P(Each, DirtyRaceTest,
                         testing::Combine(testing::Values(TrackerKind::pagemap_scan,
                                                          TrackerKind::userfaultfd),
                                          testing::Values(Kind::anonymous, Kind::huge_advised, Kind::memfd),
                                          testing::Values(Writer::store, Writer::system_call)),
                         name_of);

TEST(DirtyRaceOfMarks, LosesNoWriteThatWasMarkedAfterwards) {
  const std::uint64_t episodes = test::long_run() ? 100 : 5;
  for (std::uint64_t seed = 1; seed <= episodes; ++seed) {
    const Memory memory = Memory::anonymous(kPages * kPage);
    DirtyRace race(memory);
    MarkedWrites marks(race.layout());
    ASSERT_EQ(race.run(marks, {.rounds = 250,
                               .seed = seed,
                               .written = [&](std::uint64_t page) { marks.mark(0, page * kPage, kPage); }}),
              0U)
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace ramferry::migration
