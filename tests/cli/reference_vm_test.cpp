// SPDX-License-Identifier: MIT
#include "vm/reference_vm.hpp"

#include "memory_section.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <future>
#include <set>

namespace ramferry::vm {
namespace {

using migration::Backing;
using migration::SectionPart;

constexpr std::uint64_t kMiB = 1 << 20;

VmSpec small(FillSpec::Mode mode, std::uint64_t rate = 0) {
  return {.ram_bytes = 24 * kMiB, .fill = {.mode = mode}, .workload = {.bytes_per_second = rate}};
}

std::unique_ptr<ReferenceVm> make_vm(const VmSpec& spec) {
  static NullLog log;
  auto vm = ReferenceVm::make(spec, log);
  if (!vm) {
    ADD_FAILURE() << vm.error().message();
    return nullptr;
  }
  return std::move(*vm);
}

SweepReport swept(ReferenceVm& vm) {
  std::promise<SweepReport> done;
  vm.when_swept([&done](const SweepReport& report) { done.set_value(report); });
  vm.start_sweep();
  return done.get_future().get();
}

void wait_for_writes(const ReferenceVm& vm, std::uint64_t pages) {
  const auto start = vm.pages_written();
  while (vm.pages_written() < start + pages) std::this_thread::yield();
}

TEST(ReferenceVm, MixedFillIsAThirdOfEachAndAllRight) {
  const auto vm = make_vm(small(FillSpec::Mode::mixed));
  const SweepReport report = swept(*vm);
  EXPECT_EQ(report.wrong(), 0u) << describe(report);
  EXPECT_EQ(report.pages, 26 * kMiB / kPageBytes);
  EXPECT_EQ(report.untouched, 4 * 512u);
  EXPECT_EQ(report.zero, 5 * 512u / 16);
  EXPECT_EQ(report.materialised, 0u);
}

TEST(ReferenceVm, MixedFillTakesItsContentFromAFile) {
  VmSpec spec = small(FillSpec::Mode::mixed);
  spec.fill = parse_fill("mixed:/proc/self/exe");
  const auto vm = make_vm(spec);
  const SweepReport report = swept(*vm);
  EXPECT_EQ(report.wrong(), 0u) << describe(report);
  EXPECT_EQ(report.untouched, 4 * 512u);
  EXPECT_EQ(report.zero, 5 * 512u / 16);
}

TEST(ReferenceVm, ZeroFillTouchesEveryPage) {
  const auto vm = make_vm(small(FillSpec::Mode::zero));
  EXPECT_EQ(swept(*vm).zero, 26 * kMiB / kPageBytes);
}

TEST(ReferenceVm, UnreadableFillFileIsOneClearError) {
  NullLog log;
  const auto vm = ReferenceVm::make({.ram_bytes = kMiB, .fill = parse_fill("/no/such/file")}, log);
  ASSERT_FALSE(vm);
  EXPECT_THAT(vm.error().message(), testing::HasSubstr("/no/such/file"));
}

class Patterns : public testing::TestWithParam<Pattern> {};

TEST_P(Patterns, WrittenPagesStayRight) {
  VmSpec spec = small(FillSpec::Mode::mixed, 2000 * kMiB);
  spec.workload.pattern = GetParam();
  spec.workload.writers = 2;
  spec.backing = Backing::Kind::shared_fd;
  const auto vm = make_vm(spec);
  ASSERT_TRUE(vm->resume());
  wait_for_writes(*vm, 20'000);
  ASSERT_TRUE(vm->pause());
  const std::uint64_t written = vm->pages_written();
  const SweepReport report = swept(*vm);
  EXPECT_EQ(report.wrong(), 0u) << describe(report);
  EXPECT_EQ(vm->pages_written(), written) << "somebody wrote after pause()";
}
INSTANTIATE_TEST_SUITE_P(All, Patterns,
                         testing::Values(Pattern::uniform, Pattern::zipf, Pattern::sequential,
                                         Pattern::second, Pattern::hot),
                         [](const auto& p) { return std::string(to_string(p.param)); });

TEST(ReferenceVm, SweepOfARunningVmHoldsItsWritersAndLetsThemGoOn) {
  const auto vm = make_vm(small(FillSpec::Mode::random, 1000 * kMiB));
  ASSERT_TRUE(vm->resume());
  wait_for_writes(*vm, 1000);
  EXPECT_EQ(swept(*vm).wrong(), 0u);
  wait_for_writes(*vm, 1000);
  ASSERT_TRUE(vm->pause());
}

struct Planting {
  Fault fault;
  Verdict verdict;
};
class Faults : public testing::TestWithParam<Planting> {};

TEST_P(Faults, AreCaughtByTheSweep) {
  const auto vm = make_vm(small(FillSpec::Mode::mixed, 2000 * kMiB));
  ASSERT_TRUE(vm->resume());
  wait_for_writes(*vm, 5000);
  ASSERT_TRUE(vm->pause());
  ASSERT_TRUE(vm->plant(GetParam().fault));
  const SweepReport report = swept(*vm);
  ASSERT_EQ(report.wrong(), 1u);
  EXPECT_EQ(report.first_wrong[0].verdict, GetParam().verdict) << describe(report);
}
INSTANTIATE_TEST_SUITE_P(All, Faults,
                         testing::Values(Planting{Fault::wrong_page, Verdict::misplaced},
                                         Planting{Fault::torn_page, Verdict::torn},
                                         Planting{Fault::lost_zero, Verdict::not_zero},
                                         Planting{Fault::lost_dirty_mark, Verdict::lost_update}));

TEST(Sweep, FindsAnUntouchedPageThatHoldsSomething) {
  auto memory = GuestMemory::make({{"ram", kMiB}}, Backing::Kind::anonymous);
  ASSERT_TRUE(memory);
  PageTable table(memory->layout());
  memory->page(0, 7)[99] = std::byte{1};
  memory->page(0, 9)[99] = std::byte{0};
  const SweepReport report = sweep(*memory, table, false);
  ASSERT_EQ(report.first_wrong.size(), 1u);
  EXPECT_EQ(report.first_wrong[0].page, 7u);
  EXPECT_EQ(report.first_wrong[0].verdict, Verdict::not_untouched);
  EXPECT_EQ(report.materialised, 1u);
}

TEST(Sweep, FindsAStampedPageThatIsBlank) {
  auto memory = GuestMemory::make({{"ram", kMiB}}, Backing::Kind::anonymous);
  ASSERT_TRUE(memory);
  PageTable table(memory->layout());
  table.set(0, 3, {.kind = PageKind::stamped, .generation = 1});
  EXPECT_EQ(sweep(*memory, table, false).first_wrong.at(0).verdict, Verdict::lost_update);
}

class TableSectionTest : public testing::Test {
 protected:
  TableSectionTest() { EXPECT_TRUE(memory_); }
  void expect_equal() const {
    for (std::uint32_t block = 0; block < source_.blocks(); ++block) {
      for (std::uint64_t page = 0; page < source_.pages(block); ++page)
        ASSERT_EQ(source_.get(block, page), destination_.get(block, page)) << block << ":" << page;
    }
  }
  Result<> load(test::MemoryWriter& writer, SectionPart part) {
    test::MemoryReader reader(std::exchange(writer.content, {}));
    auto loaded = to_.load(reader, 1, part);
    EXPECT_TRUE(!loaded || reader.left() == 0);
    return loaded;
  }

  Result<GuestMemory> memory_ =
      GuestMemory::make({{"ram", 16 * kMiB}, {"vga", 100 * kPageBytes}}, Backing::Kind::anonymous);
  PageTable source_{memory_->layout()}, destination_{memory_->layout()};
  TableSection from_{memory_->layout(), source_}, to_{memory_->layout(), destination_};
};

TEST_F(TableSectionTest, DestinationHasWhatTheSourceHad) {
  Random random(1);
  const auto change_some = [&] {
    for (int i = 0; i < 1000; ++i) {
      const auto at = source_.locate(random.below(source_.pages()));
      source_.set(at.block, at.first,
                  {.kind = static_cast<PageKind>(random.below(3)),
                   .generation = static_cast<std::uint32_t>(random.below(kMostGeneration))});
    }
  };
  test::MemoryWriter writer;
  change_some();
  ASSERT_TRUE(from_.begin(writer));
  ASSERT_TRUE(load(writer, SectionPart::start));
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(from_.iterate(writer, {.bytes = 2000}));
    ASSERT_TRUE(load(writer, SectionPart::part));
    change_some();
  }
  ASSERT_FALSE(to_.loaded());
  ASSERT_TRUE(from_.finish(writer));
  ASSERT_TRUE(load(writer, SectionPart::end));
  EXPECT_TRUE(to_.loaded());
  expect_equal();
}

TEST_F(TableSectionTest, DowntimeCarriesOnlyTheLatestChanges) {
  test::MemoryWriter writer;
  ASSERT_TRUE(from_.begin(writer));
  ASSERT_TRUE(from_.iterate(writer, {.bytes = kMiB}));
  EXPECT_EQ(from_.pending(true)->bytes, 0u);
  writer.content.clear();
  for (std::uint64_t page = 0; page < 10; ++page)
    source_.set(0, page * 300, {.kind = PageKind::zero, .generation = 5});
  ASSERT_TRUE(from_.finish(writer));
  EXPECT_EQ(writer.content.size(), 10 * 21 + 1u);
}

TEST_F(TableSectionTest, UntouchedPagesCostNothingAndAreUntouchedThere) {
  destination_.set(0, 7, {.kind = PageKind::stamped, .generation = 3});  // of a machine that was there before
  source_.fill(0, 60, 200, {.kind = PageKind::zero, .generation = 9});   // one record, across words
  test::MemoryWriter writer;
  ASSERT_TRUE(from_.begin(writer));
  EXPECT_EQ(from_.pending(true)->bytes, 200 * sizeof(std::uint32_t));
  ASSERT_TRUE(load(writer, SectionPart::start));
  ASSERT_TRUE(from_.finish(writer));
  EXPECT_EQ(writer.content.size(), 21 + 1u);
  ASSERT_TRUE(load(writer, SectionPart::end));
  expect_equal();
}

TEST_F(TableSectionTest, AnotherMigrationBeginsWithAllOfIt) {
  source_.set(0, 3, {.kind = PageKind::stamped, .generation = 1});
  source_.fill(0, 100, 70, {.kind = PageKind::zero, .generation = 2});
  test::MemoryWriter writer;
  ASSERT_TRUE(from_.begin(writer));
  ASSERT_TRUE(from_.finish(writer));
  ASSERT_EQ(from_.pending(true)->bytes, 0u);
  writer.content.clear();  // it failed, and another one is tried
  ASSERT_TRUE(from_.begin(writer));
  ASSERT_TRUE(load(writer, SectionPart::start));
  ASSERT_TRUE(from_.finish(writer));
  ASSERT_TRUE(load(writer, SectionPart::end));
  expect_equal();
  // The machine moves on: what came by records is as touched as what was set.
  ASSERT_TRUE(to_.begin(writer));
  EXPECT_EQ(to_.pending(true)->bytes, 71 * sizeof(std::uint32_t));
}

TEST_F(TableSectionTest, RecordsOutsideTheTableAreRefused) {
  for (const auto& [block, first, count] : {std::tuple{2u, 0ull, 1u}, std::tuple{1u, 100ull, 1u},
                                            std::tuple{0u, ~0ull, 2u}, std::tuple{0u, 0ull, ~0u}}) {
    test::MemoryWriter writer;
    ASSERT_TRUE(writer.u8(1) && writer.u32(block) && writer.u64(first) && writer.u32(count));
    const auto loaded = load(writer, SectionPart::part);
    ASSERT_FALSE(loaded);
    EXPECT_TRUE(loaded.error().is(errc::protocol_mismatch));
  }
}

TEST_F(TableSectionTest, AnotherRamSizeIsRefusedByName) {
  auto other = GuestMemory::make({{"ram", 8 * kMiB}, {"vga", 100 * kPageBytes}}, Backing::Kind::anonymous);
  ASSERT_TRUE(other);
  PageTable table(other->layout());
  TableSection section(other->layout(), table);
  test::MemoryWriter writer;
  ASSERT_TRUE(section.begin(writer));
  const auto loaded = load(writer, SectionPart::start);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().message(), testing::HasSubstr("'ram' of 2048 pages"));
}

TEST(Devices, SerialRefusesMoreLinesThanItHolds) {
  test::MemoryWriter writer;
  ASSERT_TRUE(writer.u64(1) && writer.u32(0xffffffff));
  test::MemoryReader reader(std::move(writer.content));
  SerialDevice serial;
  const auto loaded = serial.load(reader, 1, SectionPart::full);
  ASSERT_FALSE(loaded);
  EXPECT_TRUE(loaded.error().is(errc::protocol_mismatch));
}

TEST(Devices, SerialAndClockComeOverWhole) {
  SerialDevice serial, other;
  serial.write("one");
  serial.write("two");
  test::MemoryWriter writer;
  ASSERT_TRUE(serial.finish(writer));
  test::MemoryReader reader(std::move(writer.content));
  ASSERT_TRUE(other.load(reader, 1, SectionPart::full));
  EXPECT_THAT(other.lines(), testing::ElementsAre("one", "two"));
}

TEST(Workload, KeepsItsRate) {
  // Not a timed test: the writer must not exceed its rate by more than the catch-up it may do, whatever the
  // load.
  const auto vm = make_vm(small(FillSpec::Mode::random, 40 * kMiB));
  const auto began = std::chrono::steady_clock::now();
  ASSERT_TRUE(vm->resume());
  wait_for_writes(*vm, 3000);
  ASSERT_TRUE(vm->pause());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const double most = 40.0 * kMiB * (seconds + 0.1) / kPageBytes;
  EXPECT_LE(static_cast<double>(vm->pages_written()), most);
}

}  // namespace
}  // namespace ramferry::vm
