// SPDX-License-Identifier: MIT
// The reference VM's disk on its way: chunks, marks, zeros, and what differs from a base.
#include "support/temp_folder.hpp"
#include "vm/disk_section.hpp"

#include <ramferry/migration/section_stream.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>

namespace ramferry::vm {
namespace {

using migration::SectionPart;
using testing::HasSubstr;

/// A byte stream that keeps what is sent until it is received.
class Kept final : public ByteStream {
 public:
  Result<> send(ConstBytes bytes) override {
    content.insert(content.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<std::size_t> receive(Bytes into, Deadline /*deadline*/) override {
    const std::size_t count = std::min(into.size(), content.size() - at_);
    if (count != 0) std::memcpy(into.data(), content.data() + at_, count);
    at_ += count;
    return count;
  }
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }
  std::vector<std::byte> content;

 private:
  std::size_t at_ = 0;
};

constexpr std::uint64_t kChunks = 4;
constexpr std::uint64_t kBytes = (kChunks - 1) * kDiskChunk + 4096;

class DiskSectionTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) {
    test::write_file(folder_.path(name), content);
    return folder_.path(name);
  }
  static std::string pattern(char seed) {
    std::string content(kBytes, '\0');
    for (std::size_t i = 0; i < content.size(); ++i)
      content[i] = static_cast<char>(seed + static_cast<char>(i % 251));
    return content;
  }
  static std::string content_of(const std::string& path) { return test::read_file(path); }
  static std::unique_ptr<Disk> open(const std::string& image, const std::string& base = {}) {
    auto disk = Disk::open({.image = image, .base = base});
    EXPECT_TRUE(disk) << disk.error().message();
    return std::move(*disk);
  }
  /// Start, one part, what `meanwhile` does, end; loaded at the other end.
  Result<> move(Disk& from, Disk& to, DiskSection::Mode mode, const std::function<void()>& meanwhile = {}) {
    DiskSection source(from, [mode] { return mode; }), destination(to, [] { return DiskSection::Mode{}; });
    Kept stream;
    migration::StreamWriter out(stream);
    RAMFERRY_TRY(source.begin(out));
    RAMFERRY_TRY(source.iterate(out, {.bytes = ~std::uint64_t{0}}));
    if (meanwhile) meanwhile();
    left_ = source.pending(true)->bytes;
    RAMFERRY_TRY(source.finish(out));
    RAMFERRY_TRY(out.flush());
    wire_ = out.written();
    source.report(progress_);
    migration::StreamReader in(stream);
    for (const SectionPart part : {SectionPart::start, SectionPart::part, SectionPart::end})
      RAMFERRY_TRY(destination.load(in, 1, part));
    return {};
  }

  test::TempFolder folder_;
  std::uint64_t wire_ = 0, left_ = 0;
  migration::Progress progress_;
};

TEST_F(DiskSectionTest, MovesAnImageAndWhatIsWrittenMeanwhile) {
  const std::string a = file("a", pattern('a')), b = file("b", std::string(kBytes, 'x'));
  const auto from = open(a), to = open(b);
  const std::vector<std::byte> news(100, std::byte{7});
  const auto write = [&] { ASSERT_TRUE(from->write(2 * kDiskChunk - 50, news)); };
  ASSERT_TRUE(move(*from, *to, {.wanted = true}, write));
  EXPECT_EQ(left_, 2 * kDiskChunk) << "the write lies across two chunks, and only these are sent again";
  EXPECT_EQ(content_of(b), content_of(a));
  EXPECT_EQ(progress_.disk->total, kBytes);
  EXPECT_EQ(progress_.disk->remaining, 0u);
  EXPECT_EQ(progress_.disk->transferred, kBytes + 2 * kDiskChunk);
}

TEST_F(DiskSectionTest, SendsOnlyWhatDiffersFromTheBase) {
  std::string changed = pattern('a');
  changed[kDiskChunk + 17] = '!';
  const std::string base = file("base", pattern('a')), a = file("a", changed),
                    b = file("b", std::string(kBytes, 'x'));
  const auto from = open(a, base), to = open(b, base);
  const auto put_back = [&] {  // a chunk that was sent and is the base's again must be sent again
    const std::vector<std::byte> old(1, static_cast<std::byte>(pattern('a')[kDiskChunk + 17]));
    ASSERT_TRUE(from->write(kDiskChunk + 17, old));
  };
  ASSERT_TRUE(move(*from, *to, {.wanted = true, .incremental = true}, put_back));
  EXPECT_EQ(content_of(b), content_of(a));
  EXPECT_EQ(progress_.disk->transferred, 2 * kDiskChunk);
}

TEST_F(DiskSectionTest, NamesChunksOfZerosInsteadOfSendingThem) {
  const std::string a = file("a", std::string(kBytes, '\0')), b = file("b", std::string(kBytes, 'x'));
  const auto from = open(a), to = open(b);
  ASSERT_TRUE(move(*from, *to, {.wanted = true, .detect_zeros = true}));
  EXPECT_EQ(content_of(b), content_of(a));
  EXPECT_LT(wire_, 200u);
}

TEST_F(DiskSectionTest, RefusesAnotherBaseAndAnotherSize) {
  const std::string a = file("a", pattern('a')), base = file("base", pattern('a')),
                    other = file("other", pattern('b'));
  const std::string b = file("b", pattern('b')), small = file("small", "small");
  const DiskSection::Mode incremental{.wanted = true, .incremental = true};
  const auto refusal = [&](Disk& from, Disk& to, DiskSection::Mode mode) {
    const auto moved = move(from, to, mode);
    return moved ? std::string() : moved.error().message();
  };
  const auto from = open(a, base);
  EXPECT_THAT(refusal(*from, *open(b, other), incremental), HasSubstr("another one"));
  EXPECT_THAT(refusal(*from, *open(b), incremental), HasSubstr("--disk-base"));
  EXPECT_THAT(refusal(*open(a), *open(b, base), incremental), HasSubstr("--disk-base"));
  EXPECT_THAT(refusal(*from, *open(small), {.wanted = true}), HasSubstr("same size"));
  EXPECT_FALSE(Disk::open({.image = a, .base = small}));
}

TEST_F(DiskSectionTest, RefusesChunksThatTheDiskDoesNotHave) {
  const std::string b = file("b", pattern('b'));
  const auto to = open(b);
  DiskSection destination(*to, [] { return DiskSection::Mode{}; });
  std::vector<std::byte> bytes;
  WireWriter(bytes).u64(kBytes).u8(0).u64(0).u8(2).u64(kChunks).u8(0);
  Kept stream;
  ASSERT_TRUE(stream.send(bytes));
  migration::StreamReader in(stream);
  const auto loaded = destination.load(in, 1, SectionPart::start);
  ASSERT_FALSE(loaded);
  EXPECT_TRUE(loaded.error().is(errc::protocol_mismatch));
  EXPECT_EQ(content_of(b), pattern('b'));
}

TEST_F(DiskSectionTest, AnImageThatIsGoneIsNotOpenedAgain) {
  const std::string a = file("a", pattern('a'));
  const auto disk = open(a);
  EXPECT_TRUE(disk->reopen());
  file("a", "cut");
  EXPECT_FALSE(disk->reopen());
  std::filesystem::remove(a);
  EXPECT_FALSE(disk->reopen());
}

}  // namespace
}  // namespace ramferry::vm
