// SPDX-License-Identifier: MIT
#include "hooked_ram.hpp"

#include "checkpoint/stream_builder.hpp"
#include "checkpoint/system_calls.hpp"
#include "checkpoint_writer.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace ramferry::checkpoint {
namespace {

using test::kPage;
using test::Page;
using test::page_of;

constexpr std::size_t kLot = 256;  // pages

/// Lets the test write where a source would.
class OpenStream : public HookedStream {
 public:
  Result<> send(ConstBytes /*bytes*/) override { return {}; }
  Result<std::size_t> receive(Bytes /*into*/, Deadline /*deadline*/) override { return 0U; }
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }
  Facts facts() const override { return {}; }
  Result<> land(std::vector<Landing*> blocks) override {
    landings = std::move(blocks);
    return {};
  }
  Result<> take_round() override { return {}; }
  void close_windows() noexcept override { closed = true; }
  Result<> agree(std::span<const std::uint64_t> /*sizes*/, std::vector<Range> /*plan*/) override {
    return {};
  }
  Result<Bytes> stage(const Range& /*wanted*/) override { return Bytes(); }
  Result<> zero(const Range& /*range*/) override { return {}; }
  Result<> end_round() override { return {}; }

  std::vector<Landing*> landings;
  bool closed = false;
};

class HookedRamTest : public ::testing::Test {
 protected:
  void begin(std::uint64_t pages) {
    auto file = PartialFile::create(folder_ / "vm.ckpt");
    ASSERT_TRUE(file);
    writer_.emplace(std::move(*file));
    saver_.emplace(&writer_->pages());
    ASSERT_TRUE(saver_->ram_begins(2, {{"ram", pages * kPage}}));
    ASSERT_TRUE(ram_.begin(saver_->blocks(), *saver_));
    stream_.landings[0]->note_written(0, pages * kPage);
    memory_ = stream_.landings[0]->window(0, pages * kPage);
    ASSERT_EQ(memory_.size(), pages * kPage);
  }
  void put(std::size_t page, const Page& content) {
    std::memcpy(memory_.data() + page * kPage, content.data(), kPage);
  }
  /// Whether it becomes so, within a minute.
  template <class Condition>
  static bool comes_true(Condition condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  /// Whether the file has so many pages, in that time.
  bool grows_to(std::size_t pages) {
    return comes_true([&] { return std::filesystem::file_size(writer_->file().name()) >= pages * kPage; });
  }
  /// Keeps it, and compares with what is in memory.
  void expect_kept() {
    const std::vector<std::byte> wanted(memory_.begin(), memory_.end());
    ASSERT_TRUE(ram_.keep(*saver_));
    EXPECT_TRUE(stream_.closed);
    EXPECT_TRUE(saver_->check_complete());
    EXPECT_EQ(writer_->pages().overwritten(), 0U);
    ASSERT_TRUE(writer_->seal({.machine = "pc-test"}));
    ASSERT_TRUE(writer_->file().publish());
    const auto file = CheckpointFile::open(folder_ / "vm.ckpt");
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_TRUE(file->verify());
    std::vector<std::byte> got(wanted.size());
    for (const StoredRun& run : file->runs()) {
      for (std::uint64_t i = 0; i < run.count; ++i)
        ASSERT_TRUE(file->read(run, i, std::array{Bytes(got).subspan((run.first + i) * kPage, kPage)}));
    }
    EXPECT_TRUE(got == wanted);
  }

  test::TemporaryFolder folder_;
  std::optional<CheckpointWriter> writer_;
  std::optional<StreamSaver> saver_;
  OpenStream stream_;
  HookedRam ram_{stream_};
  Bytes memory_;
};

TEST_F(HookedRamTest, StoresAheadAndKeepsWhatPagesBecame) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "one processor: nothing is stored ahead";
  begin(6 * kLot + 3);
  for (std::size_t page = 0; page < 2 * kLot; ++page) put(page, page_of(static_cast<std::uint32_t>(page)));
  put(4 * kLot, page_of(1));  // far behind: the first lots look settled
  ASSERT_TRUE(grows_to(2 * kLot));
  // Which they are not.
  put(0, page_of(9000));
  put(kLot, Page{});
  put(5, page_of(9001));
  put(5, page_of(5));
  put(6 * kLot + 2, page_of(2));
  expect_kept();
}

TEST_F(HookedRamTest, KeepsWhatADiskThatWasFullForAMomentDidNotTake) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "one processor: nothing is stored ahead";
  begin(6 * kLot + 3);
  {
    const test::FullDisk full(test::room_to_write, 100 * kPage);
    const int before = test::writes_refused;
    for (std::size_t page = 0; page < 2 * kLot; ++page) put(page, page_of(static_cast<std::uint32_t>(page)));
    put(4 * kLot, page_of(1));  // far behind: the first lots look settled
    ASSERT_TRUE(comes_true([&] { return test::writes_refused > before; }));
  }
  expect_kept();
}

TEST_F(HookedRamTest, KeepsWhatNothingCameBehind) {
  begin(3 * kLot);
  for (std::size_t page = 0; page < kLot; page += 3) put(page, page_of(static_cast<std::uint32_t>(page)));
  expect_kept();
}

TEST_F(HookedRamTest, IsGivenUpWhileItWaits) {
  begin(6 * kLot);
  put(0, page_of(1));
}

/// A source that lives, zeroes all of its memory, and cannot be answered.
class UnansweredSource final : public OpenStream {
 public:
  explicit UnansweredSource(std::vector<std::byte> bytes) : played_(std::move(bytes)) {}
  Result<> send(ConstBytes /*bytes*/) override {
    return fail(errc::unsupported, "answering the source", "switch its return-path off");
  }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    return played_.receive(into, deadline);
  }
  Result<> take_round() override { return landings[0]->zero(0, landings[0]->size()); }

 private:
  test::PlayedStream played_;
};

TEST(HookedReceiverTest, ASourceThatCannotBeAnsweredIsRefused) {
  constexpr std::uint64_t kHook = 0x80;
  for (const bool asks : {false, true}) {
    const test::TemporaryFolder folder;
    NullLog log;
    test::StreamBuilder stream;
    stream.head();
    if (asks) stream.command(1).command(2, std::array<std::byte, 4>{});  // open the return path, ping
    stream.start({{"ram", kPage}}).part(3).word(kHook).finish().devices();
    const auto result =
        Receiver(Link(std::make_unique<UnansweredSource>(stream.bytes())), {.path = folder / "vm.ckpt"}, log)
            .run();
    EXPECT_EQ(folder.files(), asks ? 0U : 1U);
    ASSERT_EQ(result.has_value(), !asks) << (result ? "" : result.error().message());
    if (asks) {
      EXPECT_TRUE(result.error().is(errc::unsupported)) << result.error().message();
      EXPECT_EQ(result.error().advice, "switch its return-path off");
    }
  }
}

/// No thread gets the stack that it asks for, until the end of its scope.
class NoNewThreads {
 public:
  NoNewThreads() {
    pthread_attr_t attributes;
    ::pthread_getattr_default_np(&attributes);
    ::pthread_attr_getstacksize(&attributes, &before_);
    ::pthread_attr_setstacksize(&attributes, std::size_t{1} << 48);
    EXPECT_EQ(::pthread_setattr_default_np(&attributes), 0);
    ::pthread_attr_destroy(&attributes);
  }
  NoNewThreads(const NoNewThreads&) = delete;
  NoNewThreads& operator=(const NoNewThreads&) = delete;
  ~NoNewThreads() {
    pthread_attr_t attributes;
    ::pthread_getattr_default_np(&attributes);
    ::pthread_attr_setstacksize(&attributes, before_);
    EXPECT_EQ(::pthread_setattr_default_np(&attributes), 0);
    ::pthread_attr_destroy(&attributes);
  }

 private:
  std::size_t before_ = 0;
};

TEST_F(HookedRamTest, KeepsOnTheThreadsThatThereAre) {
  const NoNewThreads none;
  EXPECT_THROW(std::thread([] {}).join(), std::system_error);
  begin(3 * kLot);
  for (std::size_t page = 0; page < 3 * kLot; page += 2) put(page, page_of(static_cast<std::uint32_t>(page)));
  expect_kept();
}

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * kPage;
}

TEST_F(HookedRamTest, ABlockThatAPeerSpeaksOfTakesNoMemory) {
  const std::uint64_t before = resident_bytes();
  constexpr std::uint64_t kSpokenOf = 1ULL << 40, kMarks = kSpokenOf / kPage;
  auto file = PartialFile::create(folder_ / "vm.ckpt");
  ASSERT_TRUE(file);
  writer_.emplace(std::move(*file));
  saver_.emplace(&writer_->pages());
  ASSERT_TRUE(saver_->ram_begins(2, {{"ram", kSpokenOf}}));
  const Result<> begun = ram_.begin(saver_->blocks(), *saver_);
  if (!begun) {  // a machine that promises no more than it has
    EXPECT_NE(begun.error().message().find("'ram' of 1 TiB"), std::string::npos) << begun.error().message();
    return;
  }
  EXPECT_EQ(stream_.landings[0]->size(), kSpokenOf);
  EXPECT_LT(resident_bytes(), before + kMarks / 2);
}

}  // namespace
}  // namespace ramferry::checkpoint
