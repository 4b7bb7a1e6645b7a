// SPDX-License-Identifier: MIT
#include "checkpoint/stream_builder.hpp"
#include "checkpoint_writer.hpp"
#include "multifd_packet.hpp"
#include "multifd_receiver.hpp"
#include "multifd_sender.hpp"
#include "support/outcome.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>
#include <ramferry/checkpoint/sender.hpp>
#include <ramferry/stream_bundle.hpp>

#include <gtest/gtest.h>
#include <zstd.h>

#include <future>

namespace ramferry::checkpoint {
namespace {

using ramferry::test::why;
using test::kPage;
using test::Page;
using test::page_of;
using test::PlayedStream;
using test::StreamBuilder;

const std::vector<BlockInfo> kBlocks = {{"ram", 8 * kPage}, {"rom", kPage}};

/// What a QEMU says on one channel.
class ChannelBuilder {
 public:
  ChannelBuilder& pages(std::initializer_list<std::pair<std::uint64_t, std::uint32_t>> pages,
                        std::initializer_list<std::uint64_t> zeros = {}, bool sync = false) {
    MultifdPacket packet{.sync = sync};
    std::vector<std::byte> content;
    for (const auto& [page, seed] : pages) {
      packet.offsets[packet.pages++] = page * kPage;
      const Page bytes = page_of(seed);
      content.insert(content.end(), bytes.begin(), bytes.end());
    }
    for (const std::uint64_t page : zeros) packet.offsets[packet.pages + packet.zero_pages++] = page * kPage;
    packet.payload = static_cast<std::uint32_t>(content.size());
    encode_packet(packet, "ram", ++number_, bytes_);
    bytes_.insert(bytes_.end(), content.begin(), content.end());
    return *this;
  }
  ChannelBuilder& sync() {
    encode_packet({.sync = true}, {}, ++number_, bytes_);
    return *this;
  }
  ChannelBuilder& raw(ConstBytes bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::uint64_t number_ = 0;
};

class MultifdTest : public ::testing::Test {
 protected:
  /// A main stream with one part for the first round and an end; the second round's pages come before that.
  static StreamBuilder main_stream(bool says_where) {
    StreamBuilder stream;
    stream.head().section(1, 2, "ram", 4).word(4 * kPage | StreamBuilder::mem_size);
    stream.u8(3).raw(as_bytes("ram")).word(4 * kPage);
    const auto finish = [&] {
      if (says_where) stream.word(StreamBuilder::flush);
      stream.finish();
    };
    finish();
    stream.part();
    if (!says_where) stream.zeroed(3 * kPage, "ram");
    finish();
    stream.part(3);
    finish();
    return stream.devices();
  }

  Result<ReceiveReport> receive(const StreamBuilder& main, const std::vector<ChannelBuilder>& channels,
                                std::size_t most = 1U << 20, Format format = Format::checkpoint) {
    std::vector<std::unique_ptr<ByteStream>> streams;
    streams.reserve(channels.size());
    for (const ChannelBuilder& each : channels)
      streams.push_back(std::make_unique<PlayedStream>(each.bytes(), most));
    Receiver receiver(Link(std::make_unique<StreamBundle>(std::make_unique<PlayedStream>(main.bytes()),
                                                          std::move(streams))),
                      {.path = path_, .format = format}, log_);
    return receiver.run();
  }
  Page page(std::uint64_t number) { return page(number, path_); }
  static Page page(std::uint64_t number, const std::filesystem::path& path) {
    Page content{};
    const auto file = CheckpointFile::open(path);
    EXPECT_TRUE(file.has_value()) << why(file);
    if (!file) return content;
    for (const StoredRun& run : file->runs()) {
      if (run.block != 0 || number < run.first || number >= run.first + run.count) continue;
      EXPECT_TRUE(file->read(run, number - run.first, std::array{Bytes(content)}).has_value());
    }
    return content;
  }
  void expect_refused(const std::vector<ChannelBuilder>& channels, errc condition, std::string_view naming,
                      bool says_where = true) {
    const auto result = receive(main_stream(says_where), channels);
    ASSERT_FALSE(result.has_value()) << naming;
    EXPECT_TRUE(result.error().is(condition)) << why(result);
    EXPECT_NE(why(result).find(naming), std::string::npos) << why(result);
    EXPECT_EQ(folder_.files(), 0U);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "vm.ckpt";
  NullLog log_;
};

TEST_F(MultifdTest, TakesPagesFromChannelsAndZerosFromEither) {
  for (const bool says_where : {false, true}) {
    ChannelBuilder a, b;
    a.sync().pages({{0, 1}}).sync().sync();
    b.sync().pages({{1, 2}}, says_where ? std::initializer_list<std::uint64_t>{2, 3}
                                        : std::initializer_list<std::uint64_t>{2});
    b.sync().pages({{2, 5}}, {1}).sync();
    const auto result = receive(main_stream(says_where), {a, b});
    ASSERT_TRUE(result.has_value()) << why(result);
    EXPECT_EQ(result->stored_pages, 2U);
    EXPECT_EQ(page(0), page_of(1));
    EXPECT_EQ(page(1), Page{});  // became zero
    EXPECT_EQ(page(2), page_of(5));
    EXPECT_EQ(page(3), Page{});
  }
}

TEST_F(MultifdTest, ChannelsThatAreAheadWaitForThoseThatAreBehind) {
  for (int round = 0; round < 50; ++round) {
    ChannelBuilder slow, quick;
    slow.sync();
    for (std::uint32_t i = 0; i < 20; ++i) slow.pages({{0, 100 + i}, {1, 100 + i}}, {2, 3});
    slow.sync().sync();
    quick.sync().sync().pages({{0, 7}, {1, 8}}, {}, true);
    const auto result = receive(main_stream(true), {slow, quick}, 1009);
    ASSERT_TRUE(result.has_value()) << why(result);
    ASSERT_EQ(page(0), page_of(7)) << round;
    ASSERT_EQ(page(1), page_of(8)) << round;
  }
}

TEST_F(MultifdTest, WhatChannelsSayBehindASyncIsNewerThanTheMainStreamBeforeIt) {
  StreamBuilder main;
  main.head().section(1, 2, "ram", 4).word(kPage | StreamBuilder::mem_size);
  main.u8(3).raw(as_bytes("ram")).word(kPage).word(StreamBuilder::flush).finish();
  main.part().filled(0, page_of(1), "ram").word(StreamBuilder::flush).finish();
  main.part(3).word(StreamBuilder::flush).finish().devices();
  ChannelBuilder channel;
  channel.sync().sync().pages({{0, 9}}).sync();
  for (int round = 0; round < 15; ++round) {
    const auto result = receive(main, {channel});
    ASSERT_TRUE(result.has_value()) << why(result);
    ASSERT_EQ(page(0), page_of(9)) << round;
  }
}

/// Plays its bytes once it is let.
class GatedStream final : public ByteStream {
 public:
  GatedStream(std::vector<std::byte> bytes, std::shared_future<void> open)
      : played_(std::move(bytes)), open_(std::move(open)) {}
  Result<> send(ConstBytes bytes) override { return played_.send(bytes); }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    open_.wait();
    return played_.receive(into, deadline);
  }
  Result<> finish(Deadline deadline) override { return played_.finish(deadline); }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }

 private:
  PlayedStream played_;
  std::shared_future<void> open_;
};

TEST_F(MultifdTest, PagesBehindTheLastSyncChangeNothing) {
  auto file = PartialFile::create(path_);
  ASSERT_TRUE(file.has_value()) << why(file);
  CheckpointWriter writer(std::move(*file));
  StreamSaver saver(&writer.pages());
  ASSERT_TRUE(saver.ram_begins(2, {{"ram", kPage}}).has_value());
  const auto content = page_of(1);
  ASSERT_TRUE(saver.channel_pages(0, std::array{std::uint64_t{0}}, content).has_value());
  std::promise<void> gate;
  std::vector<std::unique_ptr<ByteStream>> channels;
  channels.push_back(
      std::make_unique<GatedStream>(ChannelBuilder().pages({{0, 9}}).bytes(), gate.get_future().share()));
  StreamBundle streams(std::make_unique<PlayedStream>(std::vector<std::byte>{}), std::move(channels));
  {
    MultifdReceiver receiver(streams, saver);
    receiver.start();
    receiver.close();
    gate.set_value();
  }
  Page kept{};
  ASSERT_TRUE(writer.pages().read(0, 0, Bytes(kept)).has_value());
  EXPECT_EQ(kept, page_of(1));
}

TEST_F(MultifdTest, UnpacksAChannelsZstdStream) {
  std::vector<std::byte> plain;
  for (const std::uint32_t seed : {1U, 2U, 3U, 4U}) {
    const Page bytes = page_of(seed);
    plain.insert(plain.end(), bytes.begin(), bytes.end());
  }
  // One stream for all packets of a channel, flushed behind each.
  ZSTD_CStream* const stream = ZSTD_createCStream();
  ChannelBuilder channel;
  channel.sync();
  for (const std::size_t at : {std::size_t{0}, 2 * kPage}) {
    std::vector<std::byte> packed(ZSTD_compressBound(2 * kPage) + 100);
    ZSTD_inBuffer in = {plain.data() + at, 2 * kPage, 0};
    ZSTD_outBuffer out = {packed.data(), packed.size(), 0};
    ASSERT_EQ(ZSTD_compressStream2(stream, &out, &in, ZSTD_e_flush), 0U);
    std::vector<std::byte> head;
    MultifdPacket packet{.payload = static_cast<std::uint32_t>(out.pos), .pages = 2};
    packet.offsets = {at, at + kPage};
    encode_packet(packet, "ram", 1, head);
    head[11] = std::byte{4};
    channel.raw(head).raw(ConstBytes(packed).first(out.pos));
  }
  ZSTD_freeCStream(stream);
  channel.sync().sync();
  const auto result = receive(main_stream(true), {channel}, 333);
  ASSERT_TRUE(result.has_value()) << why(result);
  for (std::uint32_t number = 0; number < 4; ++number) EXPECT_EQ(page(number), page_of(number + 1));
}

TEST_F(MultifdTest, WhatChannelsMayNotDoIsRefusedAndNothingIsKept) {
  const auto all = {std::pair<std::uint64_t, std::uint32_t>{0, 1}, {1, 1}, {2, 1}, {3, 1}};
  ChannelBuilder whole;
  whole.sync().pages(all).sync().sync();
  expect_refused({whole, ChannelBuilder().sync().sync()}, errc::peer_gone, "closed 1 of 2");
  ChannelBuilder cut;
  cut.sync().raw(ConstBytes(whole.bytes()).subspan(kPacketHeadBytes, 2000));
  expect_refused({cut}, errc::peer_gone, "multifd channel");
  ChannelBuilder outside;
  outside.sync().pages({{4, 1}}).sync().sync();
  expect_refused({outside}, errc::protocol_mismatch, "'ram', which has 16384 bytes");
  expect_refused({ChannelBuilder().sync().pages({{0, 1}}).sync().sync()}, errc::protocol_mismatch,
                 "3 of 4 pages");
  std::vector<std::byte> zlib;
  encode_packet({.payload = 10, .pages = 1}, "ram", 1, zlib);
  zlib[11] = std::byte{2};
  expect_refused({ChannelBuilder().sync().raw(zlib)}, errc::unsupported, "zlib");
  std::vector<std::byte> noise(kPacketHeadBytes + 64, std::byte{0x55});
  std::vector<std::byte> packed;
  encode_packet({.payload = 64, .pages = 1}, "ram", 1, packed);
  packed[11] = std::byte{4};
  expect_refused({ChannelBuilder().sync().raw(packed).raw(ConstBytes(noise).first(64))},
                 errc::protocol_mismatch, "do not decompress");
  expect_refused({ChannelBuilder().raw(noise)}, errc::protocol_mismatch, "does not begin like one");
}

TEST_F(MultifdTest, APlainStreamIsNotKeptOfIt) {
  const auto result = receive(main_stream(true), {ChannelBuilder()}, 1000, Format::stream);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(why(result).find("--format qemu"), std::string::npos) << why(result);
}

TEST_F(MultifdTest, WhatIsSentOverChannelsIsReceivedAsTheSame) {
  for (const std::string machine : {"pc-i440fx-8.0", "pc-q35-8.1"}) {
    StreamBuilder stream;
    stream.head(machine).start({{"ram", 400 * kPage}, {"rom", kPage}});
    stream.part(3);
    // Runs that are shorter than a packet, and one that fills more than one.
    const auto is_zero = [](std::uint64_t number) { return number < 200 && number % 5 == 0; };
    for (std::uint32_t number = 0; number < 400; ++number) {
      const std::string name = number == 0 ? "ram" : "";
      if (is_zero(number))
        stream.zeroed(number * kPage, name);
      else
        stream.filled(number * kPage, page_of(number), name);
    }
    stream.filled(0, page_of(9), "rom").finish().devices();
    Receiver plain(Link(std::make_unique<PlayedStream>(stream.bytes())), {.path = path_}, log_);
    ASSERT_TRUE(plain.run().has_value());

    std::vector<PlayedStream*> sent;
    std::vector<std::unique_ptr<ByteStream>> channels;
    for (int i = 0; i < 4; ++i) {
      auto each = std::make_unique<PlayedStream>(std::vector<std::byte>{});
      sent.push_back(each.get());
      channels.push_back(std::move(each));
    }
    auto main = std::move(channels.front());
    channels.erase(channels.begin());
    Sender sender(Link(std::make_unique<StreamBundle>(std::move(main), std::move(channels))), path_, {});
    const auto result = sender.run();
    ASSERT_TRUE(result.has_value()) << why(result);

    std::vector<std::unique_ptr<ByteStream>> played;
    for (std::size_t i = 1; i < sent.size(); ++i)
      played.push_back(std::make_unique<PlayedStream>(sent[i]->sent(), 5000));
    const auto copy = folder_ / "copy.ckpt";
    Receiver receiver(Link(std::make_unique<StreamBundle>(std::make_unique<PlayedStream>(sent[0]->sent()),
                                                          std::move(played))),
                      {.path = copy}, log_);
    const auto received = receiver.run();
    ASSERT_TRUE(received.has_value()) << machine << ": " << why(received);
    EXPECT_EQ(received->stored_pages, 361U);
    for (std::uint32_t number = 0; number < 400; ++number)
      ASSERT_EQ(page(number, copy), is_zero(number) ? Page{} : page_of(number)) << number;
    // The destination of a newer type waits for the channels where it is told to: at START and END.
    std::vector<std::byte> flush;
    WireWriter(flush).u64(StreamBuilder::flush).u64(StreamBuilder::end);
    const auto& main_bytes = sent[0]->sent();
    std::size_t places = 0;
    for (auto at = main_bytes.begin();; ++at, ++places)
      if (at = std::search(at, main_bytes.end(), flush.begin(), flush.end()); at == main_bytes.end()) break;
    EXPECT_EQ(places, machine == "pc-q35-8.1" ? 2U : 0U);
    EXPECT_TRUE(CheckpointFile::open(copy)->verify().has_value());
    EXPECT_EQ(CheckpointFile::open(copy)->head().state, CheckpointFile::open(path_)->head().state);
  }
}

TEST(MultifdSync, IsWhereTheMachineTypeHasIt) {
  for (const char* const old : {"pc-i440fx-7.2", "pc-q35-8.0", "pc-i440fx-2.12", "s390-ccw-virtio-8.0"})
    EXPECT_EQ(sync_place(old).value(), SyncPlace::each_part) << old;
  for (const char* const recent : {"pc-q35-8.1", "pc-i440fx-9.0", "virt-10.0"})
    EXPECT_EQ(sync_place(recent).value(), SyncPlace::marked) << recent;
  for (const char* const untold : {"microvm", "pc-i440fx-", "pc-7", "pc-7.x", "pc-.2", ""})
    EXPECT_FALSE(sync_place(untold).has_value()) << untold;
}

std::vector<std::byte> packet_bytes(const MultifdPacket& packet, std::string_view block = "ram") {
  std::vector<std::byte> bytes;
  encode_packet(packet, block, 5, bytes);
  return bytes;
}

TEST(MultifdPacketTest, WithoutPagesTheRestIsLeftOver) {
  // As QEMU 7.2 was seen to send it: the length and the name of the packet before, and no payload behind it.
  auto bytes = packet_bytes({.sync = true, .payload = 237568}, "nothing known");
  const auto packet = decode_packet(bytes, kBlocks);
  ASSERT_TRUE(packet.has_value()) << why(packet);
  EXPECT_TRUE(packet->sync);
  EXPECT_EQ(packet->payload, 0U);
}

TEST(MultifdPacketTest, IsReadAsItWasWritten) {
  MultifdPacket packet{.payload = 2 * kPage, .pages = 2, .zero_pages = 1};
  packet.offsets = {0, 3 * kPage, 7 * kPage};
  const auto bytes = packet_bytes(packet);
  EXPECT_EQ(bytes.size(), kPacketHeadBytes);
  const auto read = decode_packet(bytes, kBlocks);
  ASSERT_TRUE(read.has_value()) << why(read);
  EXPECT_EQ(read->pages, 2U);
  EXPECT_EQ(read->zero_offsets()[0], 7 * kPage);
  EXPECT_FALSE(read->sync);
}

TEST(MultifdPacketTest, EveryFieldIsChecked) {
  const auto refuses = [](std::vector<std::byte> bytes, errc condition) {
    const auto read = decode_packet(bytes, kBlocks);
    ASSERT_FALSE(read.has_value());
    EXPECT_TRUE(read.error().is(condition)) << why(read);
  };
  const auto mismatch = errc::protocol_mismatch;
  const MultifdPacket one{.payload = kPage, .pages = 1};
  const auto with = [&](std::size_t at, int value) {
    auto bytes = packet_bytes(one);
    bytes[at] = static_cast<std::byte>(value);
    return bytes;
  };
  ASSERT_TRUE(decode_packet(packet_bytes(one), kBlocks).has_value());
  auto cut = packet_bytes(one);
  cut.pop_back();
  refuses(cut, mismatch);
  refuses(with(3, 0), mismatch);            // magic
  refuses(with(7, 2), errc::unsupported);   // version
  refuses(with(11, 2), errc::unsupported);  // zlib
  refuses(with(11, 0x20), errc::unsupported);
  refuses(with(11, 0x40), errc::unsupported);
  refuses(with(19, 129), mismatch);  // pages
  refuses(with(16, 0xff), mismatch);
  refuses(with(35, 128), mismatch);  // zero pages
  refuses(with(32, 0xff), mismatch);
  refuses(with(22, 0), mismatch);    // payload
  refuses(with(67, 'x'), mismatch);  // block name
  refuses(with(327, 1), mismatch);   // an offset that is no page
  refuses(with(324, 1), mismatch);   // an offset outside
  refuses(packet_bytes(one, std::string(256, 'x')), mismatch);
  MultifdPacket packed{.payload = static_cast<std::uint32_t>(kMostPayloadBytes) + 1, .pages = 128};
  auto bytes = packet_bytes(packed);
  bytes[11] = std::byte{4};
  refuses(bytes, mismatch);
}

}  // namespace
}  // namespace ramferry::checkpoint
