// SPDX-License-Identifier: MIT
// The RAM section over QEMU's records: what goes into the stream, and what a destination refuses.
#include "memory_stream.hpp"

#include <ramferry/migration/ram_section.hpp>
#include <ramferry/migration/section_stream.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <zlib.h>

#include <cstring>

namespace ramferry::migration {
namespace {

using ramferry::testing::MemoryStream;

constexpr std::size_t kPage = 4096;

/// Blocks of fresh zero pages.
class Memory {
 public:
  explicit Memory(std::vector<std::pair<std::string, std::size_t>> blocks) {
    std::vector<RamBlock> list;
    for (const auto& [name, pages] : blocks) {
      void* at = ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      ::madvise(at, pages * kPage, MADV_NOHUGEPAGE);
      mapped_.emplace_back(static_cast<std::byte*>(at), pages * kPage);
      list.push_back({.name = name, .host = mapped_.back()});
    }
    layout_ = *RamLayout::make(std::move(list));
  }
  Memory(const Memory&) = delete;
  ~Memory() {
    for (const Bytes each : mapped_) ::munmap(each.data(), each.size());
  }
  const RamLayout& layout() const { return *layout_; }
  Bytes page(std::uint32_t block, std::size_t number) const {
    return (*layout_)[block].host.subspan(number * kPage, kPage);
  }
  std::size_t resident(std::uint32_t block) const {
    const Bytes memory = mapped_[block];
    std::vector<unsigned char> present(memory.size() / kPage);
    ::mincore(memory.data(), memory.size(), present.data());
    return static_cast<std::size_t>(
        std::count_if(present.begin(), present.end(), [](auto p) { return p & 1; }));
  }

 private:
  std::vector<Bytes> mapped_;
  std::optional<RamLayout> layout_;
};

/// A tracker that reports what the test says, once.
class Scripted final : public DirtyTracker {
 public:
  explicit Scripted(std::vector<PageRun>& dirty) : dirty_(dirty) {}
  std::string_view name() const noexcept override { return "scripted"; }
  Result<> arm(const PageRun&) override { return {}; }
  Result<> harvest(DirtySet& into) override {
    for (const PageRun& run : dirty_) into.mark(run);
    dirty_.clear();
    return {};
  }
  void stop() noexcept override {}

 private:
  std::vector<PageRun>& dirty_;
};

struct Source {
  explicit Source(Memory& memory)
      : ram(memory.layout(), {.tracker = [this]() -> Result<std::unique_ptr<DirtyTracker>> {
              return std::make_unique<Scripted>(dirty);
            }},
            log) {}
  NullLog log;
  std::vector<PageRun> dirty;
  RamSection ram;
};

std::vector<std::byte> start_part(const std::vector<std::pair<std::string, std::uint64_t>>& blocks,
                                  std::uint64_t total) {
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  out.u64(total | 4);
  for (const auto& [name, size] : blocks) out.text8(name).u64(size);
  out.u64(0x10);
  return bytes;
}

Result<> load(RamSection& ram, std::vector<std::byte> bytes, SectionPart part, std::uint32_t version = 4) {
  MemoryStream stream(std::move(bytes));
  StreamReader in(stream);
  return ram.load(in, version, part);
}

TEST(RamSection, CarriesPagesZerosAndChangesByQemusRecords) {
  Memory from({{"a", 300}, {"b", 2}}), to({{"a", 300}, {"b", 2}});
  std::memset(from.page(0, 0).data(), 1, kPage);
  std::memset(from.page(0, 299).data(), 2, kPage);
  std::memset(from.page(1, 1).data(), 3, kPage);
  Source source(from);
  NullLog log;
  RamSection destination(to.layout(), {.tracker = {}, .blank = true}, log);
  MemoryStream stream;
  StreamWriter out(stream);
  ASSERT_TRUE(source.ram.attach(nullptr));
  ASSERT_TRUE(destination.attach(nullptr));

  ASSERT_TRUE(source.ram.begin(out));
  const auto first = source.ram.iterate(out, {.bytes = ~0ull});
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->finishable);
  EXPECT_EQ(first->bytes, 0u);
  std::memset(from.page(0, 0).data(), 0, kPage);  // became zero
  std::memset(from.page(0, 7).data(), 4, kPage);
  source.dirty = {{0, 0, 1}, {0, 7, 1}};
  EXPECT_EQ(source.ram.pending(true)->bytes, 2 * kPage);
  std::memset(from.page(1, 0).data(), 5, kPage);
  source.dirty = {{1, 0, 1}};
  ASSERT_TRUE(source.ram.finish(out));
  ASSERT_TRUE(out.flush());
  Progress progress;
  source.ram.report(progress);
  EXPECT_EQ(progress.pages.normal, 5u);
  source.ram.cleanup();

  StreamReader in(stream);
  for (const SectionPart part : {SectionPart::start, SectionPart::part, SectionPart::end})
    ASSERT_TRUE(destination.load(in, 4, part));
  EXPECT_LE(to.resident(0), 4u) << "zeros do not touch a blank destination";
  for (std::uint32_t block = 0; block < 2; ++block)
    EXPECT_TRUE(std::ranges::equal(from.layout()[block].host, to.layout()[block].host));
}

TEST(RamSection, KeepsABudget) {
  Memory from({{"a", 300}});
  for (std::size_t i = 0; i < 300; ++i) std::memset(from.page(0, i).data(), 1, kPage);
  Source source(from);
  MemoryStream stream;
  StreamWriter out(stream);
  ASSERT_TRUE(source.ram.attach(nullptr));
  ASSERT_TRUE(source.ram.begin(out));
  const auto pending = source.ram.iterate(out, {.bytes = 10 * kPage});
  ASSERT_TRUE(pending);
  EXPECT_EQ(pending->bytes, 290 * kPage);
}

TEST(RamSection, ChecksTheSourcesBlocksAndNamesTheWrongOne) {
  struct Case {
    std::vector<std::pair<std::string, std::uint64_t>> blocks;
    std::uint64_t total;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {{{"a", 8192}, {"b", 4096}}, 12288, {}},
      {{{"b", 4096}, {"a", 8192}}, 12288, {}},
      {{{"a", 8192}, {"c", 4096}}, 12288, {"'c'", "does not have"}},
      {{{"a", 4096}, {"b", 4096}}, 8192, {"'a'", "4096", "8192"}},
      {{{"a", 8192}, {"a", 8192}}, 16384, {"'a'", "twice"}},
      {{{"a", 8192}}, 8192, {"'b'", "does not have"}},
      {{{"a", 8192}, {"b", 4096}}, 8192, {"'b'"}},
      {{{"a", 8192}}, 4096, {"'a'", "total"}},
      {{{"a", ~0ull}}, ~0ull << 12, {"'a'"}},
  };
  for (const Case& each : cases) {
    Memory memory({{"a", 2}, {"b", 1}});
    NullLog log;
    RamSection ram(memory.layout(), {}, log);
    ASSERT_TRUE(ram.attach(nullptr));
    const auto result = load(ram, start_part(each.blocks, each.total), SectionPart::start);
    EXPECT_EQ(result.has_value(), each.words.empty());
    for (const std::string& word : each.words)
      EXPECT_NE(result.error().message().find(word), std::string::npos) << result.error().message();
  }
}

TEST(RamSection, RefusesPagesOutsideItsBlocksAndUnknownRecords) {
  struct Case {
    std::uint64_t word;
    std::string name, text;
  };
  const std::vector<Case> cases = {
      {0x2000 | 0x08, "a", "0x2000"},  {~0ull << 12 | 0x08, "a", "'a'"}, {0x0 | 0x08, "z", "'z'"},
      {0x0 | 0x28, "", "continues"},   {0x0 | 0x40, "a", "encoding 0"},  {0x0 | 0x80, "", "0x80"},
      {0x0 | 0x200, "", "0x200"},      {0x1000 | 0x0a, "a", "0x100a"},   {0x2000 | 0x40, "a", "0x2000"},
      {0x2000 | 0x100, "a", "0x2000"}, {0x0 | 0x01, "", "0x1"},
  };
  for (const Case& each : cases) {
    Memory memory({{"a", 2}, {"b", 1}});
    NullLog log;
    RamSection ram(memory.layout(), {}, log);
    ASSERT_TRUE(ram.attach(nullptr));
    ASSERT_TRUE(load(ram, start_part({{"a", 8192}, {"b", 4096}}, 12288), SectionPart::start));
    std::vector<std::byte> bytes;
    WireWriter out(bytes);
    out.u64(each.word);
    if (!each.name.empty()) out.text8(each.name);
    out.zeros(kPage).u64(0x10);
    const auto result = load(ram, bytes, SectionPart::part);
    ASSERT_FALSE(result) << each.text;
    EXPECT_NE(result.error().message().find(each.text), std::string::npos) << result.error().message();
  }
}

TEST(RamSection, TakesQemusCompressedRecordsInTheOrderInWhichTheyCame) {
  Memory memory({{"a", 2}});
  NullLog log;
  RamSection ram(memory.layout(), {}, log);
  ASSERT_TRUE(ram.attach(nullptr));
  ASSERT_TRUE(load(ram, start_part({{"a", 8192}}, 8192), SectionPart::start));
  // What zlib makes of 4096 times the same byte, at level 1.
  const auto compressed = [](std::uint8_t value) {
    const std::vector<Bytef> page(kPage, value);
    std::vector<std::byte> small(compressBound(kPage));
    uLongf length = small.size();
    EXPECT_EQ(compress2(reinterpret_cast<Bytef*>(small.data()), &length, page.data(), page.size(), 1), Z_OK);
    small.resize(length);
    return small;
  };
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  const auto record = [&](std::uint64_t word, std::uint8_t value) {
    const auto small = compressed(value);
    out.u64(word);
    if ((word & 0x20) == 0) out.text8("a");
    out.u32(static_cast<std::uint32_t>(small.size())).raw(small);
  };
  record(0x0 | 0x100, 7);
  record(0x0 | 0x120, 8);  // the same page again: the later one counts
  record(0x1000 | 0x120, 9);
  out.u64(0x1000 | 0x22).u8(5);  // then it is filled with another byte
  out.u64(0x10);
  ASSERT_TRUE(load(ram, bytes, SectionPart::part));
  EXPECT_EQ(memory.page(0, 0)[4095], std::byte{8});
  EXPECT_EQ(memory.page(0, 1)[0], std::byte{5});

  for (const std::uint32_t length : {std::uint32_t{20}, std::uint32_t{8193}}) {
    std::vector<std::byte> broken;
    WireWriter(broken).u64(0x100).text8("a").u32(length).zeros(length).u64(0x10);
    const auto loaded = load(ram, broken, SectionPart::part);
    ASSERT_FALSE(loaded);
    EXPECT_TRUE(loaded.error().is(errc::protocol_mismatch));
  }
}

TEST(RamSection, RefusesAnotherVersion) {
  Memory memory({{"a", 1}});
  NullLog log;
  RamSection ram(memory.layout(), {}, log);
  ASSERT_TRUE(ram.attach(nullptr));
  EXPECT_FALSE(load(ram, start_part({{"a", 4096}}, 4096), SectionPart::start, 3));
}

TEST(RamSection, NeedsATrackerOnlyToBeSaved) {
  Memory memory({{"a", 1}});
  NullLog log;
  RamSection ram(memory.layout(), {}, log);
  MemoryStream stream;
  StreamWriter out(stream);
  ASSERT_TRUE(ram.attach(nullptr));
  const auto result = ram.begin(out);
  ASSERT_FALSE(result);
  EXPECT_TRUE(result.error().is(errc::wrong_state));
}

}  // namespace
}  // namespace ramferry::migration
