// SPDX-License-Identifier: MIT
// A ramferry source that keeps to its protocol up to the hand-over, and then does what it likes.
#include "checkpoint/stream_builder.hpp"
#include "support/loopback_channel.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>
#include <ramferry/migration/native_protocol.hpp>
#include <ramferry/migration/section_stream.hpp>

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <future>

namespace ramferry::checkpoint {
namespace {

namespace native = migration::native;
using native::MessageType;
using test::kPage;
using test::page_of;
using test::StreamBuilder;

class NativeReceiverTest : public ::testing::Test {
 protected:
  /// Everything up to PREPARED, then `then`; what the source heard last.
  static Result<> source(Channel& channel, const native::Hello& hello,
                         const std::function<Result<>()>& then) {
    migration::StreamReader in(channel);
    in.set_deadline(Deadline::after(std::chrono::seconds(60)));
    const auto expect = [&](MessageType wanted) -> Result<> {
      RAMFERRY_TRY_ASSIGN(const auto message, native::read_message(in));
      if (message.type == wanted) return {};
      return fail(errc::peer_failed, std::string(native::to_string(message.type)));
    };
    RAMFERRY_TRY(native::send_message(channel, MessageType::hello, native::encode(hello)));
    RAMFERRY_TRY(expect(MessageType::hello_reply));
    StreamBuilder head, rest;
    head.head().start({{"ram", 2 * kPage}});
    RAMFERRY_TRY(channel.send(head.bytes()));
    RAMFERRY_TRY(expect(MessageType::slots_ready));
    const auto content = page_of(1);
    const std::array placed = {Placement{.slot = SlotId{0}, .offset = 0, .bytes = content}};
    RAMFERRY_TRY(channel.place(placed));
    RAMFERRY_TRY_ASSIGN(const Epoch epoch, channel.fence());
    RAMFERRY_TRY(channel.settle(epoch, Deadline::after(std::chrono::seconds(60))));
    rest.part(3).word(epoch).finish().devices();
    RAMFERRY_TRY(channel.send(rest.bytes()));
    RAMFERRY_TRY(expect(MessageType::prepared));
    RAMFERRY_TRY(then());
    return expect(MessageType::running);
  }

  Result<ReceiveReport> receive(const std::function<Result<>()>& then, const native::Hello& hello = {}) {
    Receiver receiver(Link(std::move(pair_.destination)),
                      {.path = in_folder_ ? folder_.path() : path_, .in_folder = in_folder_}, log_);
    auto said = std::async(std::launch::async, [&] {
      auto result = source(*pair_.source, hello, then);
      (void)pair_.source->finish(Deadline::after(std::chrono::seconds(60)));
      return result;
    });
    auto result = receiver.run();
    heard_ = said.get();
    return result;
  }
  Result<> say(MessageType type, ConstBytes payload = {}) {
    return native::send_message(*pair_.source, type, payload);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "vm.ckpt";
  bool in_folder_ = false;
  NullLog log_;
  test::ChannelPair pair_ = test::make_loopback_pair();
  Result<> heard_;
};

TEST_F(NativeReceiverTest, NothingLandsInWhatIsSealed) {
  const auto result = receive([&]() -> Result<> {
    const auto late = page_of(2);
    const std::array placed = {Placement{.slot = SlotId{0}, .offset = 0, .bytes = late}};
    (void)pair_.source->place(placed);
    (void)pair_.source->fence();
    return say(MessageType::commit);
  });
  const auto kept = result ? path_ : std::filesystem::path(path_.string() + ".unconfirmed");
  const auto file = CheckpointFile::open(kept);
  ASSERT_TRUE(file.has_value()) << file.error().message();
  EXPECT_TRUE(file->verify().has_value());
}

TEST_F(NativeReceiverTest, ASourceThatLeavesBeforeItCommitsMayStillHaveItsGuest) {
  const auto result = receive([&] { return fail(errc::cancelled, "leaving"); });
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().is(errc::outcome_unknown)) << result.error().message();
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_TRUE(CheckpointFile::open(path_.string() + ".unconfirmed").has_value());
}

TEST_F(NativeReceiverTest, AnEarlierUnconfirmedCheckpointStaysBesideTheNext) {
  const std::filesystem::path earlier = path_.string() + ".unconfirmed";
  std::ofstream(earlier) << "an earlier one";
  const auto result = receive([&] { return fail(errc::cancelled, "leaving"); });
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().is(errc::outcome_unknown)) << result.error().message();
  const std::filesystem::path kept = path_.string() + "-2.unconfirmed";
  EXPECT_NE(result.error().message().find(kept.string()), std::string::npos) << result.error().message();
  EXPECT_TRUE(CheckpointFile::open(kept).has_value());
  EXPECT_EQ(std::filesystem::file_size(earlier), 14U);
}

TEST_F(NativeReceiverTest, InAFolderAnUnconfirmedCheckpointHasTheMachinesName) {
  in_folder_ = true;
  const auto result = receive([&] { return fail(errc::cancelled, "leaving"); });
  ASSERT_FALSE(result.has_value());
  ASSERT_EQ(folder_.files(), 1U);
  const auto kept = std::filesystem::directory_iterator(folder_.path())->path();
  EXPECT_TRUE(kept.filename().string().starts_with("pc-test-")) << kept;
  EXPECT_TRUE(kept.string().ends_with(".ckpt.unconfirmed")) << kept;
  EXPECT_NE(result.error().message().find(kept.string()), std::string::npos) << result.error().message();
  EXPECT_TRUE(CheckpointFile::open(kept).has_value());
}

TEST_F(NativeReceiverTest, WhatCannotGetItsNameAfterTheCommitIsKept) {
  const auto result = receive([&]() -> Result<> {
    std::filesystem::create_directories(path_ / "in-the-way");
    return say(MessageType::commit);
  });
  ASSERT_FALSE(result.has_value());
  const std::filesystem::path kept = path_.string() + ".unpublished";
  EXPECT_NE(result.error().message().find(kept.string()), std::string::npos) << result.error().message();
  EXPECT_NE(result.error().advice.find("ramferry send"), std::string::npos) << result.error().advice;
  const auto file = CheckpointFile::open(kept);
  ASSERT_TRUE(file.has_value()) << file.error().message();
  EXPECT_TRUE(file->verify().has_value());
}

TEST_F(NativeReceiverTest, ASourceThatSaysWhyKeepsItsGuest) {
  const auto result =
      receive([&] { return say(MessageType::failed, native::encode_failed("no more lanes")); });
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().is(errc::peer_failed)) << result.error().message();
  EXPECT_NE(result.error().message().find("no more lanes"), std::string::npos);
  EXPECT_EQ(folder_.files(), 0U);
}

TEST_F(NativeReceiverTest, CommitsOnceItIsTold) {
  const auto result = receive([&] { return say(MessageType::commit); });
  ASSERT_TRUE(result.has_value()) << result.error().message();
  EXPECT_TRUE(heard_.has_value()) << heard_.error().message();
  EXPECT_EQ(result->stored_pages, 1U);
  EXPECT_TRUE(CheckpointFile::open(path_)->verify().has_value());
  EXPECT_EQ(CheckpointFile::origin_of(path_).value(), Origin::native);
}

TEST_F(NativeReceiverTest, EncodingsAreRefusedInTheHello) {
  const auto result = receive([] { return Result<>{}; }, {.required = native::feature::kXbzrle});
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().is(errc::unsupported)) << result.error().message();
  EXPECT_FALSE(heard_.has_value());
}

}  // namespace
}  // namespace ramferry::checkpoint
