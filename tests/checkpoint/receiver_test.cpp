// SPDX-License-Identifier: MIT
#include "checkpoint/stream_builder.hpp"
#include "support/outcome.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>
#include <ramferry/checkpoint/sender.hpp>
#include <ramferry/migration/xbzrle.hpp>
#include <ramferry/posix_transport.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>

namespace ramferry::checkpoint {
namespace {

using ramferry::test::why;
using test::kPage;
using test::Page;
using test::page_of;
using test::PlayedStream;
using test::StreamBuilder;

class ReceiverTest : public ::testing::Test {
 protected:
  Result<ReceiveReport> receive(const std::vector<std::byte>& stream, std::size_t most = 1U << 20,
                                Format format = Format::checkpoint) {
    auto played = std::make_unique<PlayedStream>(stream, most);
    PlayedStream& source = *played;
    Receiver receiver(Link(std::move(played)), {.path = path_, .format = format}, log_);
    auto result = receiver.run();
    answers_ = source.sent();
    return result;
  }
  Result<ReceiveReport> receive(const StreamBuilder& stream) { return receive(stream.bytes()); }
  /// What a sender makes of the file.
  std::vector<std::byte> sent() {
    auto played = std::make_unique<PlayedStream>(std::vector<std::byte>{});
    PlayedStream& destination = *played;
    Sender sender(Link(std::move(played)), path_, {});
    const auto result = sender.run();
    EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().message());
    return destination.sent();
  }
  Page page(std::uint64_t number, std::uint32_t block = 0) {
    Page content{};
    auto file = CheckpointFile::open(path_);
    EXPECT_TRUE(file.has_value());
    for (const StoredRun& run : file->runs()) {
      if (run.block != block || number < run.first || number >= run.first + run.count) continue;
      EXPECT_TRUE(file->read(run, number - run.first, std::array{Bytes(content)}).has_value());
    }
    return content;
  }
  void expect_refused(const StreamBuilder& stream, errc condition, std::string_view naming) {
    const auto result = receive(stream);
    ASSERT_FALSE(result.has_value()) << naming;
    EXPECT_TRUE(result.error().is(condition)) << why(result);
    EXPECT_NE(why(result).find(naming), std::string::npos) << why(result);
    EXPECT_EQ(folder_.files(), 0U);
  }
  static StreamBuilder begun() {
    StreamBuilder stream;
    stream.head().start({{"ram", 2 * kPage}});
    return stream;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "vm.ckpt";
  NullLog log_;
  std::vector<std::byte> answers_;
};

TEST_F(ReceiverTest, KeepsTheNewestOfEachPageAndTheStateAsItIs) {
  const auto result = receive(test::small_machine());
  ASSERT_TRUE(result.has_value()) << why(result);
  EXPECT_EQ(result->machine, "pc-test");
  EXPECT_EQ(CheckpointFile::origin_of(path_).value(), Origin::qemu);
  EXPECT_EQ(result->stored_pages, 2U);
  EXPECT_EQ(result->overwritten, 1U);
  EXPECT_FALSE(result->acknowledged);
  EXPECT_EQ(page(1), page_of(11));
  EXPECT_EQ(page(3), Page{});
  EXPECT_EQ(page(0, 1), page_of(9));
  StreamBuilder state;
  state.devices();
  EXPECT_EQ(CheckpointFile::open(path_)->head().state, state.bytes());
}

TEST_F(ReceiverTest, TakesStreamsInPiecesOfAnySize) {
  const auto stream = test::small_machine().bytes();
  for (const std::size_t most : {1U, 2U, 7U, 4096U}) {
    const auto result = receive(stream, most);
    ASSERT_TRUE(result.has_value()) << why(result);
    EXPECT_EQ(page(1), page_of(11));
  }
}

TEST_F(ReceiverTest, WhatIsSentIsReceivedAsTheSameCheckpoint) {
  ASSERT_TRUE(receive(test::small_machine()).has_value());
  const auto first = CheckpointFile::open(path_);
  const auto stream = sent();
  const auto again = receive(stream);
  ASSERT_TRUE(again.has_value()) << why(again);
  const auto second = CheckpointFile::open(path_);
  EXPECT_EQ(first->head().blocks, second->head().blocks);
  EXPECT_EQ(first->head().state, second->head().state);
  EXPECT_EQ(first->head().configuration, second->head().configuration);
  EXPECT_EQ(page(1), page_of(11));
  EXPECT_EQ(sent(), stream) << "a checkpoint of a checkpoint is the same";
}

/// The head of a stream with a subsection of the configuration behind the machine's name.
StreamBuilder with_subsection(const std::string& name, ConstBytes content) {
  StreamBuilder stream;
  stream.head().u8(5).u8(static_cast<std::uint8_t>(name.size())).raw(as_bytes(name)).u32(1).raw(content);
  return stream;
}

TEST_F(ReceiverTest, TheConfigurationIsKeptWhole) {
  std::vector<std::byte> capabilities, number(4, std::byte{12}), uuid(16, std::byte{0xab});
  WireWriter(capabilities).u32(2).text8("auto-converge").text8("events");
  StreamBuilder stream = with_subsection("configuration/target-page-bits", number);
  const auto append = [&](const std::string& name, ConstBytes content) {
    stream.u8(5).u8(static_cast<std::uint8_t>(name.size())).raw(as_bytes(name)).u32(1).raw(content);
  };
  append("configuration/capabilities", capabilities);
  append("configuration/uuid", uuid);
  const std::vector<std::byte> head = stream.bytes();
  stream.start({{"ram", kPage}}).part(3).filled(0, page_of(5), "ram").finish().devices();
  const auto result = receive(stream);
  ASSERT_TRUE(result.has_value()) << why(result);
  EXPECT_EQ(CheckpointFile::open(path_)->head().configuration, head);
  const auto again = sent();
  ASSERT_GT(again.size(), head.size());
  EXPECT_TRUE(std::equal(head.begin(), head.end(), again.begin()));
}

TEST_F(ReceiverTest, AConfigurationThatCannotBeKeptIsNamed) {
  expect_refused(with_subsection("configuration/odd", {}), errc::unsupported, "'configuration/odd'");
  for (const std::string name : {"x-ignore-shared", "mapped-ram"}) {
    std::vector<std::byte> capabilities;
    WireWriter(capabilities).u32(1).text8(name);
    expect_refused(with_subsection("configuration/capabilities", capabilities), errc::unsupported, name);
  }
  std::vector<std::byte> many;
  WireWriter(many).u32(257);
  expect_refused(with_subsection("configuration/capabilities", many), errc::protocol_mismatch, "257");
}

TEST_F(ReceiverTest, KeepsAPlainStreamByteForByte) {
  const auto stream = test::small_machine().bytes();
  const auto result = receive(stream, 1000, Format::stream);
  ASSERT_TRUE(result.has_value()) << why(result);
  std::ifstream file(path_, std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(file)), {});
  EXPECT_TRUE(std::ranges::equal(as_bytes(content), stream));
  EXPECT_EQ(sent(), stream);
}

TEST_F(ReceiverTest, AStreamCutAnywhereLeavesTheEarlierCheckpoint) {
  const auto stream = test::small_machine().bytes();
  ASSERT_TRUE(receive(stream).has_value());
  const auto taken = std::filesystem::last_write_time(path_);
  for (std::size_t length = 0; length < stream.size(); length += length < stream.size() - 600 ? 1511 : 3) {
    const std::vector<std::byte> cut(stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(length));
    // Behind the end mark a stream without a description is whole.
    const bool whole_without_description = length + 5 < stream.size() && cut.size() > 6 &&
                                           cut.back() == std::byte{0} && cut[length - 6] == std::byte{0x7e} &&
                                           cut[length - 2] == std::byte{5};
    if (whole_without_description) continue;
    const auto result = receive(cut);
    ASSERT_FALSE(result.has_value()) << length;
    EXPECT_EQ(folder_.files(), 1U) << length;
  }
  EXPECT_EQ(std::filesystem::last_write_time(path_), taken);
}

TEST_F(ReceiverTest, AStreamMayFailWhilePagesAreBeingStored) {
  StreamBuilder stream;
  stream.head().start({{"ram", 600 * kPage}}).part();
  for (std::uint32_t number = 0; number < 600; ++number)
    stream.filled(number * kPage, page_of(number), number == 0 ? "ram" : "");
  stream.record(0, StreamBuilder::same | 1);
  for (int round = 0; round < 20; ++round) expect_refused(stream, errc::protocol_mismatch, "0x21");
}

TEST_F(ReceiverTest, AStreamMayHaveNoDescription) {
  StreamBuilder stream = begun();
  stream.part(3).zeroed(0, "ram").zeroed(kPage).finish().devices(false);
  const auto result = receive(stream);
  EXPECT_TRUE(result.has_value()) << why(result);
}

TEST_F(ReceiverTest, BytesBehindTheEndAreRefused) {
  StreamBuilder stream = test::small_machine();
  stream.u8(0);
  expect_refused(stream, errc::protocol_mismatch, "follow");
}

TEST_F(ReceiverTest, ASourceWithAReturnPathIsAnsweredAtTheEnd) {
  StreamBuilder stream;
  const std::array<std::byte, 4> ping = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  stream.head().command(1).command(2, ping).start({{"ram", kPage}});
  stream.part(3).filled(0, page_of(5), "ram").finish().devices();
  const auto result = receive(stream);
  ASSERT_TRUE(result.has_value()) << why(result);
  EXPECT_TRUE(result->acknowledged);
  std::vector<std::byte> expected;
  WireWriter(expected).u16(2).u16(4).raw(ping).u16(1).u16(4).u32(0);
  EXPECT_EQ(answers_, expected);
}

/// Such as a file that a source's stream was written to.
class OneWayStream final : public ByteStream {
 public:
  explicit OneWayStream(std::vector<std::byte> bytes) : played_(std::move(bytes)) {}
  Result<> send(ConstBytes /*bytes*/) override { return fail(errc::unsupported, "writing to what is read"); }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    return played_.receive(into, deadline);
  }
  Result<> finish(Deadline deadline) override { return played_.finish(deadline); }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }

 private:
  PlayedStream played_;
};

std::vector<std::byte> recorded_with_return_path() {
  StreamBuilder stream;
  stream.head().command(1).command(2, std::array<std::byte, 4>{}).start({{"ram", kPage}});
  return stream.part(3).filled(0, page_of(5), "ram").finish().devices().bytes();
}

TEST_F(ReceiverTest, AStreamThatWasRecordedWithAReturnPathIsTakenWithoutOne) {
  Receiver receiver(Link(std::make_unique<OneWayStream>(recorded_with_return_path())), {.path = path_}, log_);
  const auto result = receiver.run();
  ASSERT_TRUE(result.has_value()) << why(result);
  EXPECT_FALSE(result->acknowledged);
  EXPECT_EQ(page(0), page_of(5));
}

TEST_F(ReceiverTest, ARecordingThatMayBeWrittenToStaysAsItIs) {
  const auto bytes = recorded_with_return_path();
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto recording = folder_ / "recording";
  std::ofstream(recording, std::ios::binary) << text;
  const int fd = ::open(recording.c_str(), O_RDWR | O_CLOEXEC);
  auto listener = make_posix_transport(log_)->listen(*Endpoint::parse("fd:" + std::to_string(fd)));
  ASSERT_TRUE(listener.has_value()) << listener.error().message();
  auto link = (*listener)->accept(Deadline::never());
  ASSERT_TRUE(link.has_value()) << link.error().message();
  Receiver receiver(std::move(*link), {.path = path_}, log_);
  const auto result = receiver.run();
  EXPECT_TRUE(result.has_value()) << why(result);
  EXPECT_EQ(page(0), page_of(5));
  std::ifstream file(recording, std::ios::binary);
  EXPECT_TRUE(std::string(std::istreambuf_iterator<char>(file), {}) == text);
}

TEST_F(ReceiverTest, ASourceWithAReturnPathHearsOfFailure) {
  StreamBuilder stream;
  stream.head().command(1).start({{"ram", kPage}}).section(1, 7, "block", 1);
  EXPECT_FALSE(receive(stream).has_value());
  std::vector<std::byte> expected;
  WireWriter(expected).u16(1).u16(4).u32(1);
  EXPECT_EQ(answers_, expected);
}

TEST_F(ReceiverTest, WhatCannotBeKeptIsNamed) {
  expect_refused(begun().section(1, 7, "dirty-bitmap", 1), errc::unsupported, "dirty-bitmap");
  expect_refused(begun().section(4, 7, "virtio-mem", 1), errc::unsupported, "virtio-mem");
  expect_refused(begun().command(3), errc::unsupported, "postcopy advise");
  expect_refused(begun().part().record(0, StreamBuilder::flush | StreamBuilder::same), errc::unsupported,
                 "multifd");
  StreamBuilder version;
  expect_refused(version.head().section(1, 2, "ram", 5), errc::unsupported, "version 5");
}

TEST_F(ReceiverTest, WhatBreaksTheFormatIsRefused) {
  const auto mismatch = errc::protocol_mismatch;
  expect_refused(begun().part().zeroed(2 * kPage, "ram"), mismatch, "0x2000");
  expect_refused(begun().part().zeroed(0, "rom"), mismatch, "rom");
  expect_refused(begun().part().zeroed(0), mismatch, "continues no block");
  expect_refused(begun().part().record(0, StreamBuilder::same | 1), mismatch, "0x21");
  expect_refused(begun().part(3).zeroed(0, "ram").finish(), mismatch, "1 of 2 pages");
  StreamBuilder list;
  list.head().section(1, 2, "ram", 4).word(kPage | StreamBuilder::mem_size).u8(1).u8('a').word(2 * kPage);
  expect_refused(list, mismatch, "longer than its total");
  expect_refused(begun().u8(2).u32(9), mismatch, "section number 9, which is not RAM");
  StreamBuilder footer = begun();
  footer.part().word(StreamBuilder::end).u8(0x7e).u32(3);
  expect_refused(footer, mismatch, "footer");
}

TEST_F(ReceiverTest, UnpacksDeltasAndCompressedPages) {
  const Page before = page_of(1);
  Page after = before;
  after[100] = std::byte{0xaa};
  std::array<std::byte, 64> delta{};
  const auto length = migration::xbzrle_encode(before, after, delta);
  ASSERT_TRUE(length.has_value());
  std::vector<std::byte> packed(compressBound(kPage));
  uLongf packed_length = packed.size();
  const Page other = page_of(7);
  ASSERT_EQ(compress(reinterpret_cast<Bytef*>(packed.data()), &packed_length,
                     reinterpret_cast<const Bytef*>(other.data()), kPage),
            Z_OK);
  StreamBuilder stream = begun();
  stream.part().filled(0, before, "ram").zeroed(kPage).finish();
  stream.part().record(0, StreamBuilder::delta, "ram").u8(1).u16(static_cast<std::uint16_t>(*length));
  stream.raw(ConstBytes(delta).first(*length)).record(kPage, StreamBuilder::compressed);
  stream.u32(static_cast<std::uint32_t>(packed_length)).raw(ConstBytes(packed).first(packed_length)).finish();
  stream.part(3).finish().devices();
  const auto result = receive(stream);
  ASSERT_TRUE(result.has_value()) << why(result);
  EXPECT_EQ(page(0), after);
  EXPECT_EQ(page(1), other);
}

TEST_F(ReceiverTest, AFillByteThatIsNotZeroFillsThePage) {
  StreamBuilder stream = begun();
  stream.part(3).zeroed(0, "ram", 0x55).zeroed(kPage).finish().devices();
  ASSERT_TRUE(receive(stream).has_value());
  Page expected;
  expected.fill(std::byte{0x55});
  EXPECT_EQ(page(0), expected);
}

TEST_F(ReceiverTest, InAFolderEachMachineGetsAFileOfItsOwn) {
  for (int i = 0; i < 3; ++i) {
    Receiver receiver(Link(std::make_unique<PlayedStream>(test::small_machine().bytes())),
                      {.path = folder_.path(), .in_folder = true}, log_);
    const auto result = receiver.run();
    ASSERT_TRUE(result.has_value()) << why(result);
    EXPECT_TRUE(result->path.filename().string().starts_with("pc-test-")) << result->path;
    EXPECT_TRUE(CheckpointFile::open(result->path).has_value());
  }
  EXPECT_EQ(folder_.files(), 3U);
}

TEST_F(ReceiverTest, ADestinationThatIsAskedSaysHowItWent) {
  ASSERT_TRUE(receive(test::small_machine()).has_value());
  for (const std::uint32_t outcome : {0U, 1U}) {
    std::vector<std::byte> answers;
    WireWriter(answers).u16(2).u16(4).u32(1).u16(1).u16(4).u32(outcome);  // PONG, SHUT
    Sender sender(Link(std::make_unique<PlayedStream>(answers)), path_, {.return_path = true});
    const auto result = sender.run();
    ASSERT_EQ(result.has_value(), outcome == 0) << outcome;
    if (result)
      EXPECT_TRUE(result->acknowledged);
    else
      EXPECT_TRUE(result.error().is(errc::peer_failed)) << result.error().message();
  }
  Sender alone(Link(std::make_unique<PlayedStream>(std::vector<std::byte>{})), path_, {.return_path = true});
  EXPECT_TRUE(alone.run().error().is(errc::peer_gone));
}

TEST_F(ReceiverTest, ADamagedPageIsNotSent) {
  ASSERT_TRUE(receive(test::small_machine()).has_value());
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(kPage + 5);
    file.put('!');
  }
  Sender sender(Link(std::make_unique<PlayedStream>(std::vector<std::byte>{})), path_, {});
  const auto result = sender.run();
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().is(errc::protocol_mismatch)) << result.error().message();
}

}  // namespace
}  // namespace ramferry::checkpoint
