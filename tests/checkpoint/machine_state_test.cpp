// SPDX-License-Identifier: MIT
// Where a machine's state ends, when its devices hold what looks like an end.
#include "machine_state.hpp"

#include "checkpoint/stream_builder.hpp"
#include "support/outcome.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>

#include <gtest/gtest.h>

#include <deque>
#include <numeric>
#include <utility>

namespace ramferry::checkpoint {
namespace {

using ramferry::test::why;
using test::kPage;
using test::StreamBuilder;

constexpr std::uint8_t kFull = 4;

/// Each receive() gets one piece. Then it ends, or stays open and silent: who waits without a deadline would
/// wait for ever, and is told so.
class CutStream final : public ByteStream {
 public:
  CutStream(std::deque<std::vector<std::byte>> pieces, bool stays_open)
      : pieces_(std::move(pieces)), stays_open_(stays_open) {}
  Result<> send(ConstBytes bytes) override {
    sent_.insert(sent_.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    if (pieces_.empty()) {
      if (!stays_open_) return std::size_t{0};
      return deadline.is_never() ? fail(errc::wrong_state, "waiting for ever")
                                 : fail(errc::timed_out, "receiving");
    }
    std::vector<std::byte>& piece = pieces_.front();
    const std::size_t count = std::min(into.size(), piece.size());
    std::copy_n(piece.begin(), count, into.begin());
    piece.erase(piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(count));
    if (piece.empty()) pieces_.pop_front();
    return count;
  }
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }
  const std::vector<std::byte>& sent() const noexcept { return sent_; }

 private:
  std::deque<std::vector<std::byte>> pieces_;
  bool stays_open_;
  std::vector<std::byte> sent_;
};

/// What ends a device's section, and a state with this description.
void append_end(StreamBuilder& state, std::uint32_t section, std::string_view description) {
  state.u8(0x7e).u32(section).u8(0).u8(6).u32(static_cast<std::uint32_t>(description.size()));
  state.raw(as_bytes(description));
}

std::vector<std::byte> piece(const std::vector<std::byte>& all, std::size_t from, std::size_t to) {
  return {all.begin() + static_cast<std::ptrdiff_t>(from), all.begin() + static_cast<std::ptrdiff_t>(to)};
}

class MachineStateTest : public ::testing::Test {
 protected:
  /// The state behind RAM, cut where told, from a source that waits for the answer or one that does not.
  Result<ReceiveReport> receive(const StreamBuilder& state, const std::vector<std::size_t>& cuts,
                                bool waits) {
    StreamBuilder stream;
    stream.head();
    if (waits) stream.command(1);
    stream.start({{"ram", kPage}}).part(3).zeroed(0, "ram").finish();
    std::deque<std::vector<std::byte>> pieces = {stream.bytes()};
    std::size_t from = 0;
    for (const std::size_t cut : cuts) pieces.push_back(piece(state.bytes(), std::exchange(from, cut), cut));
    pieces.push_back(piece(state.bytes(), from, state.bytes().size()));
    auto played = std::make_unique<CutStream>(std::move(pieces), waits);
    CutStream& source = *played;
    Receiver receiver(Link(std::move(played)), {.path = path_}, log_);
    auto result = receiver.run();
    answers_ = source.sent();
    return result;
  }
  /// However it is cut, from either kind of source.
  void expect_kept(const StreamBuilder& state, const std::vector<std::size_t>& cuts) {
    for (const bool waits : {false, true}) {
      const auto result = receive(state, cuts, waits);
      ASSERT_TRUE(result.has_value()) << waits << ": " << why(result);
      EXPECT_EQ(CheckpointFile::open(path_)->head().state, state.bytes()) << waits;
      EXPECT_EQ(answers_, waits ? shut(0) : nothing());
    }
  }
  static std::vector<std::byte> nothing() { return {}; }
  static std::vector<std::byte> shut(std::uint32_t outcome) {
    std::vector<std::byte> expected;
    WireWriter(expected).u16(1).u16(4).u32(outcome);
    return expected;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "vm.ckpt";
  NullLog log_;
  std::vector<std::byte> answers_;
};

TEST_F(MachineStateTest, AnEndThatIsNeverReachedDoesNotHideTheRealOne) {
  for (const std::uint32_t length : {300U, 1U << 20, 64U << 20}) {
    StreamBuilder state;
    state.section(kFull, 9, "disk", 1).u8(0x7e).u32(9).u8(0).u8(6).u32(length).raw(as_bytes("{"));
    state.u8(0x7e).u32(9);
    const std::size_t device = state.bytes().size();
    append_end(state, 9, R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}]})");
    expect_kept(state, {});
    expect_kept(state, {device - 6, device + 8});
  }
}

TEST_F(MachineStateTest, ADescriptionInsideADevicesStateIsNotTheEnd) {
  for (const std::string_view decoy :
       {R"({"devices": []})", R"({"devices": [{"name": "other", "instance_id": 0, "version": 1}]})",
        R"({"devices": [{"name": "disk", "instance_id": 1, "version": 1}]})",
        R"({"devices": [{"name": "disk", "instance_id": 0, "version": 2}]})",
        R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}]})"}) {
    StreamBuilder state;
    state.section(kFull, 9, "disk", 1);
    append_end(state, 7, decoy);
    const std::size_t decoy_end = state.bytes().size();
    append_end(state.u8(1).u8(2), 9, R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}]})");
    expect_kept(state, {decoy_end});
    expect_kept(state, {});
    std::vector<std::size_t> everywhere(state.bytes().size() - 1);
    std::iota(everywhere.begin(), everywhere.end(), 1);
    expect_kept(state, everywhere);
  }
}

TEST_F(MachineStateTest, SectionsOfOneNameAndThoseWithoutALayoutAreFound) {
  StreamBuilder state;
  state.section(kFull, 3, "cpu", 12).u32(1).u8(0x7e).u32(3);
  // A head of the next section, with another number, in what a guest wrote.
  state.section(kFull, 4, "net", 4)
      .u8(0x7e)
      .u32(4)
      .section(kFull, 99, "cpu", 12)
      .u8(0x7e)
      .u32(99)
      .u8(0x7e)
      .u32(4);
  state.section(kFull, 5, "cpu", 12).u32(2);
  append_end(
      state, 5,
      R"({"page_size": 4096, "devices": [{"name": "cpu", "instance_id": 0, "vmsd_name": "c", "version": 12,)"
      R"( "fields": [{"name": "x", "struct": {"version": 3, "name": "y"}, "instance_id": 8}]},)"
      R"({"name": "net", "instance_id": 0, "size": 20, "fields": [{"name": "data", "size": 20}]},)"
      R"({"name": "cpu", "instance_id": 0, "version": 12}], "more": [[{"name": "z"}]]})");
  for (std::size_t cut = 1; cut < 60; cut += 7) expect_kept(state, {cut, state.bytes().size() - cut});
}

TEST_F(MachineStateTest, EndsOfLiveSectionsMayComeBeforeTheDevices) {
  StreamBuilder state;
  state.u8(3).u32(0x04040404).u32(77).u8(0x7e).u32(0x04040404).section(kFull, 2, "globalstate", 1).u32(5);
  append_end(state, 2, R"({"devices": [{"name": "globalstate", "instance_id": 0, "version": 1}]})");
  expect_kept(state, {3, 40});
}

TEST_F(MachineStateTest, ADescriptionOfAnotherStateIsRefusedAndNoSourceWaitsForEver) {
  StreamBuilder state;
  state.section(kFull, 9, "disk", 1).u32(5);
  append_end(state, 9, R"({"devices": [{"name": "clock", "instance_id": 0, "version": 1}]})");
  for (const bool waits : {false, true}) {
    const auto result = receive(state, {}, waits);
    ASSERT_FALSE(result.has_value());
    EXPECT_TRUE(result.error().is(errc::protocol_mismatch)) << why(result);
    EXPECT_NE(why(result).find("'clock'"), std::string::npos) << why(result);
    EXPECT_EQ(folder_.files(), 0U);
    EXPECT_EQ(answers_, waits ? shut(1) : nothing());
  }
}

/// It knows where its bytes are cut, and what the sections before it are called.
TEST_F(MachineStateTest, WhatFollowsAForgedEndIsNotForgotten) {
  StreamBuilder state;
  state.section(kFull, 9, "disk", 1);
  append_end(state, 9, R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}]})");
  const std::size_t forged = state.bytes().size();
  state.u8(0x7e).u32(9).section(kFull, 10, "net", 1);
  append_end(state, 10,
             R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1},)"
             R"({"name": "net", "instance_id": 0, "version": 1}]})");
  const auto told = receive(state, {forged}, true);
  ASSERT_FALSE(told.has_value()) << "half of the state would be sealed";
  EXPECT_TRUE(told.error().is(errc::protocol_mismatch)) << why(told);
  EXPECT_EQ(answers_, shut(1)) << "the source keeps its guest";
  EXPECT_EQ(folder_.files(), 0U);
  const auto ended = receive(state, {forged}, false);
  ASSERT_TRUE(ended.has_value()) << why(ended);
  EXPECT_EQ(CheckpointFile::open(path_)->head().state, state.bytes());
}

TEST_F(MachineStateTest, AStateFullOfEndsIsTakenAsItIs) {
  StreamBuilder state;
  state.section(kFull, 9, "disk", 1);
  for (std::uint32_t i = 0; i < 50'000; ++i) {
    state.u8(0x7e).u32(9).u8(0).u8(6).u32(i % 2 == 0 ? 64U << 20 : 300 + i).u8('{');
    // Heads that overlap: the number of the one before is the beginning of the next.
    state.u8(0x7e).u32(6).u8(0).u8(6).u16(6).u16(0x7b7b).u8('{');
  }
  append_end(state, 9, R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}]})");
  const std::size_t size = state.bytes().size();
  expect_kept(state, {size / 2, size - 100, size - 60, size - 1});
}

TEST(StateCollector, LooksInVainOnlySoOften) {
  StreamBuilder head;
  head.section(kFull, 9, "disk", 1).raw(std::vector<std::byte>(1U << 20));
  StreamBuilder decoy;
  append_end(
      decoy, 9,
      R"({"devices": [{"name": "disk", "instance_id": 0, "version": 1}, {"name": "x", "instance_id": 0},)"
      R"({"name": "y", "instance_id": 0}]})");
  StateCollector collector;
  ASSERT_TRUE(collector.add(head.bytes()).has_value());
  Result<> added;
  int count = 0;
  for (; added && count < 1000; ++count) added = collector.add(decoy.bytes());
  ASSERT_FALSE(added.has_value());
  EXPECT_TRUE(added.error().is(errc::protocol_mismatch)) << added.error().message();
  EXPECT_GT(count, 60) << "a guest that is lucky a few times is no reason";
}

}  // namespace
}  // namespace ramferry::checkpoint
