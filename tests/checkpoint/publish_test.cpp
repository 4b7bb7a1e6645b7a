// SPDX-License-Identifier: MIT
// What is complete gets a name, or is kept without the one it should have; what is not leaves nothing.
#include "checkpoint/stream_builder.hpp"
#include "checkpoint/system_calls.hpp"
#include "support/outcome.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>
#include <ramferry/partial_file.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <utility>

namespace ramferry::checkpoint {
namespace {

using ramferry::test::why;
using test::Lacking;
using test::PlayedStream;
using test::StreamBuilder;

class Lines final : public Log {
 public:
  bool wants(LogLevel level) const noexcept override { return level <= LogLevel::warn; }
  void write(LogLevel /*level*/, std::string_view line) noexcept override { text += line, text += '\n'; }
  std::string text;
};

/// A source during whose migration something happens elsewhere.
class EventfulStream final : public ByteStream {
 public:
  EventfulStream(std::vector<std::byte> bytes, std::function<void()> act)
      : played_(std::move(bytes)), act_(std::move(act)) {}
  Result<> send(ConstBytes bytes) override { return played_.send(bytes); }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    auto got = played_.receive(into, deadline);
    if (act_) std::exchange(act_, {})();
    return got;
  }
  Result<> finish(Deadline deadline) override { return played_.finish(deadline); }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }
  const std::vector<std::byte>& sent() const noexcept { return played_.sent(); }

 private:
  PlayedStream played_;
  std::function<void()> act_;
};

class PublishTest : public ::testing::Test {
 protected:
  Result<ReceiveReport> receive_into_folder() {
    Receiver receiver(Link(std::make_unique<PlayedStream>(test::small_machine().bytes())),
                      {.path = folder_.path(), .in_folder = true}, log_);
    return receiver.run();
  }
  /// Something stands in the way when the file is complete.
  Result<ReceiveReport> receive_obstructed(const std::vector<std::byte>& stream) {
    const auto obstruct = [this] { std::filesystem::create_directories(path_ / "in-the-way"); };
    auto played = std::make_unique<EventfulStream>(stream, obstruct);
    EventfulStream& source = *played;
    Receiver receiver(Link(std::move(played)), {.path = path_}, log_);
    auto result = receiver.run();
    answers_ = source.sent();
    return result;
  }
  std::vector<std::filesystem::path> files() const {
    const std::filesystem::directory_iterator all(folder_.path());
    return {begin(all), end(all)};
  }
  static void expect_told(const Error& error, const std::filesystem::path& where) {
    EXPECT_NE(error.message().find(where.string()), std::string::npos) << error.message();
    EXPECT_NE(error.advice.find("ramferry send"), std::string::npos) << error.message();
  }
  static void expect_whole(const std::filesystem::path& path) {
    const auto file = CheckpointFile::open(path);
    ASSERT_TRUE(file.has_value()) << why(file);
    EXPECT_TRUE(file->verify().has_value());
  }
  void write(std::string_view name, std::string_view content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "vm.ckpt";
  Lines log_;
  std::vector<std::byte> answers_;
};

TEST_F(PublishTest, AFolderNeedsLinksOrExclusiveRenamesNotBoth) {
  for (std::atomic<bool>* missing : {&test::no_hard_links, &test::no_exclusive_rename}) {
    const Lacking lacking(*missing);
    for (int i = 0; i < 2; ++i) {
      const auto result = receive_into_folder();
      ASSERT_TRUE(result.has_value()) << why(result);
      expect_whole(result->path);
    }
  }
  EXPECT_EQ(folder_.files(), 4U);
}

TEST_F(PublishTest, WhatNoFileSystemCallCanNameIsKept) {
  {
    const Lacking links(test::no_hard_links), renames(test::no_exclusive_rename);
    const auto result = receive_into_folder();
    ASSERT_FALSE(result.has_value());
    ASSERT_EQ(folder_.files(), 1U);
    expect_told(result.error(), files().front());
    expect_whole(files().front());
  }
  tidy_folder(folder_.path(), log_);
  ASSERT_EQ(folder_.files(), 1U) << "it is no rest";
  expect_whole(files().front());
}

TEST_F(PublishTest, WhatCannotTakeItsNameIsKeptUnderAnother) {
  for (const std::string ending : {".unpublished", "-2.unpublished"}) {
    const auto result = receive_obstructed(test::small_machine().bytes());
    ASSERT_FALSE(result.has_value());
    expect_told(result.error(), path_.string() + ending);
    EXPECT_EQ(result.error().advice.find("keep its guest"), std::string::npos) << result.error().advice;
    expect_whole(path_.string() + ending);
  }
}

TEST_F(PublishTest, ASourceThatWaitsKeepsItsGuestAllTheSame) {
  StreamBuilder stream;
  stream.head().command(1).start({{"ram", test::kPage}}).part(3).zeroed(0, "ram").finish().devices();
  const auto result = receive_obstructed(stream.bytes());
  ASSERT_FALSE(result.has_value());
  expect_told(result.error(), path_.string() + ".unpublished");
  EXPECT_NE(result.error().advice.find("keep its guest"), std::string::npos) << result.error().advice;
  std::vector<std::byte> expected;
  WireWriter(expected).u16(1).u16(4).u32(1);
  EXPECT_EQ(answers_, expected);
}

TEST_F(PublishTest, AFolderThatCannotBeSyncedLeavesTheFileUnderItsName) {
  const Lacking lacking(test::no_folder_sync);
  for (const bool in_folder : {false, true}) {
    Receiver receiver(Link(std::make_unique<PlayedStream>(test::small_machine().bytes())),
                      {.path = in_folder ? folder_.path() : path_, .in_folder = in_folder}, log_);
    const auto result = receiver.run();
    ASSERT_FALSE(result.has_value());
    for (const auto& each : files()) {
      if (in_folder == (each != path_)) expect_told(result.error(), each);
      expect_whole(each);
    }
  }
  EXPECT_EQ(folder_.files(), 2U);
}

TEST_F(PublishTest, WhatKilledReceivesLeftIsRemovedAndTold) {
  write(".receiving-1-1.partial", std::string(5000, 'x'));
  write(".receiving-1-2.partial", std::string(5000, 'x'));
  write(".receiving-1-3.partial", "");  // it may be a moment old
  write(".receiving-note", "");
  write("vm.partial", "somebody else's");
  const int live = ::open((folder_ / ".receiving-1-2.partial").c_str(), O_RDWR | O_CLOEXEC);
  const UniqueFd held(live);
  ASSERT_EQ(::flock(live, LOCK_EX | LOCK_NB), 0);
  tidy_folder(folder_.path(), log_);
  EXPECT_FALSE(std::filesystem::exists(folder_ / ".receiving-1-1.partial"));
  EXPECT_EQ(folder_.files(), 4U);
  EXPECT_NE(log_.text.find("removed " + (folder_ / ".receiving-1-1.partial").string() + " of 4.9 KiB"),
            std::string::npos)
      << log_.text;
  EXPECT_EQ(std::count(log_.text.begin(), log_.text.end(), '\n'), 1) << log_.text;
}

TEST_F(PublishTest, AnOldEmptyRestIsRemovedAsWell) {
  write(".receiving-1-1.partial", "");
  std::filesystem::last_write_time(folder_ / ".receiving-1-1.partial",
                                   std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  tidy_folder(folder_.path(), log_);
  EXPECT_EQ(folder_.files(), 0U);
}

TEST_F(PublishTest, AWholeMachineOfAKilledReceiveIsNoRest) {
  const auto result = receive_into_folder();
  ASSERT_TRUE(result.has_value()) << why(result);
  std::filesystem::rename(result->path, folder_ / ".receiving-1-1.partial");
  tidy_folder(folder_.path(), log_);
  ASSERT_EQ(folder_.files(), 1U);
  const auto kept = files().front();
  EXPECT_TRUE(kept.filename().string().starts_with("pc-test-")) << kept;
  EXPECT_TRUE(kept.string().ends_with(".ckpt.unconfirmed")) << kept;
  EXPECT_NE(log_.text.find(kept.string()), std::string::npos) << log_.text;
  expect_whole(kept);
}

}  // namespace
}  // namespace ramferry::checkpoint
