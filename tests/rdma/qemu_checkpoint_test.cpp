// SPDX-License-Identifier: MIT
// A kept VM whose RAM travels past its stream: sender to receiver, over QEMU's RDMA protocol on a fabric
// model.
#include "checkpoint/stream_builder.hpp"
#include "qemu_peers.hpp"

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>
#include <ramferry/checkpoint/sender.hpp>

#include <gmock/gmock.h>

#include <thread>

namespace ramferry::checkpoint {
namespace {

using rdma::testing::ModelNet;
using test::kPage;
using test::page_of;
using test::PlayedStream;
using test::StreamBuilder;
namespace peers = rdma::qemu::testing;

class HookedTest : public ::testing::Test {
 protected:
  std::filesystem::path path(std::string_view name) const { return folder_ / name; }

  /// A checkpoint of `pages` pages, a third of them zero, and two small blocks, of which one has nothing
  /// else.
  void keep(std::string_view name, std::uint32_t pages) {
    StreamBuilder stream;
    stream.head().start({{"ram", pages * kPage}, {"rom", 2 * kPage}, {"vga", 600 * kPage}}).part();
    for (std::uint32_t page = 0; page < pages; ++page) {
      const std::string_view block = page == 0 ? "ram" : "";
      if (page % 64 < 20)
        stream.zeroed(page * kPage, block);
      else
        stream.filled(page * kPage, page_of(page), block);
    }
    stream.zeroed(0, "rom").filled(kPage, page_of(7));
    for (std::uint32_t page = 0; page < 600; ++page) stream.zeroed(page * kPage, page == 0 ? "vga" : "");
    stream.finish().part(3).finish().devices();
    Receiver receiver(Link(std::make_unique<PlayedStream>(stream.bytes())), {.path = path(name)}, log_);
    const auto kept = receiver.run();
    ASSERT_TRUE(kept) << kept.error().message();
  }
  Result<Link> connect(std::uint16_t port, const std::string& options) {
    const auto transport = rdma::make_transport_over(log_, net_.make_fabric());
    const auto to = Endpoint::parse("rdma:model:" + std::to_string(port) + "?dialect=qemu&" + options);
    return transport->connect(*to, SessionId::random(), Deadline::after(peers::kPatience));
  }

  Result<ReceiveReport> receive(peers::Waiting& waiting) {
    Receiver receiver(waiting.accepted().value(), {.path = path("vm.ckpt")}, log_);
    return receiver.run();
  }

  NullLog log_;
  test::TemporaryFolder folder_;
  ModelNet net_;
};

/// Every stored page, by block and place.
std::vector<PageRead> pages_of(const CheckpointFile& file) {
  std::vector<PageRead> pages;
  for (const StoredRun& run : file.runs())
    for (std::uint64_t index = 0; index < run.count; ++index) pages.push_back({&run, index, {}});
  return pages;
}

TEST_F(HookedTest, WhatIsSentIsReceivedAsTheSameCheckpoint) {
  keep("first", 1000);
  for (const std::string options : {"pin=all", "pin=demand", "pin=demand&chunk=1M"}) {
    peers::Waiting waiting(net_);
    auto link = connect(waiting.port(), options);
    ASSERT_TRUE(link) << link.error().message();
    Result<ReceiveReport> received = ReceiveReport{};
    std::thread receiving([&] { received = receive(waiting); });
    Sender sender(std::move(*link), path("first"), {});
    const auto sent = sender.run();
    receiving.join();
    ASSERT_TRUE(sent) << sent.error().message();
    ASSERT_TRUE(received) << received.error().message();
    EXPECT_EQ(sender.done_bytes(), sender.ram_bytes());
    const auto first = CheckpointFile::open(path("first")), second = CheckpointFile::open(path("vm.ckpt"));
    ASSERT_TRUE(second) << second.error().message();
    EXPECT_TRUE(second->verify());
    EXPECT_EQ(second->head().blocks, first->head().blocks);
    EXPECT_EQ(second->head().state, first->head().state);
    EXPECT_EQ(second->stored_pages(), first->stored_pages());
    // Several threads store: the same pages may lie in another order, in other runs.
    const auto wanted = pages_of(*first), got = pages_of(*second);
    ASSERT_EQ(got.size(), wanted.size());
    test::Page here, there;
    for (std::size_t page = 0; page < wanted.size(); ++page) {
      ASSERT_EQ(got[page].run->block, wanted[page].run->block);
      ASSERT_EQ(got[page].run->first + got[page].index, wanted[page].run->first + wanted[page].index);
      ASSERT_TRUE(first->read(*wanted[page].run, wanted[page].index, std::array{Bytes(here)}));
      ASSERT_TRUE(second->read(*got[page].run, got[page].index, std::array{Bytes(there)}));
      ASSERT_EQ(here, there);
    }
  }
}

TEST_F(HookedTest, ASourceThatVanishesLeavesNoFile) {
  StreamBuilder stream;
  stream.head().start({{"ram", 4 * kPage}}).part();
  // Cut after every byte up to where its first round would begin.
  for (std::size_t cut = 0; cut < stream.bytes().size(); cut += 7) {
    peers::Waiting waiting(net_);
    auto source = peers::bare_source(net_, waiting.port(), false);
    Result<ReceiveReport> received = ReceiveReport{};
    std::thread receiving([&] { received = receive(waiting); });
    EXPECT_TRUE(source->send_when_ready(rdma::qemu::MessageType::stream, 1,
                                        ConstBytes(stream.bytes()).first(cut + 1)));
    EXPECT_TRUE(source->drain(Deadline::after(peers::kPatience)));
    source.reset();
    receiving.join();
    ASSERT_FALSE(received);
    EXPECT_TRUE(received.error().is(errc::peer_gone)) << received.error().message();
    EXPECT_EQ(folder_.files(), 0U);
  }
}

TEST_F(HookedTest, PagesThatNeverCameAreMissed) {
  peers::Waiting waiting(net_);
  const auto source = peers::hooked(connect(waiting.port(), "pin=demand").value());
  Result<ReceiveReport> received = ReceiveReport{};
  std::thread receiving([&] { received = receive(waiting); });
  const auto work = [&]() -> Result<> {
    StreamBuilder begin;
    begin.head().section(1, 2, "ram", 4).word(4 * kPage | StreamBuilder::mem_size);
    begin.u8(3).raw(as_bytes("ram")).word(4 * kPage).word(0x80);
    RAMFERRY_TRY(source->send(begin.bytes()));
    const std::array<std::uint64_t, 1> sizes{4 * kPage};
    RAMFERRY_TRY(source->agree(sizes, {}));
    StreamBuilder last;
    last.finish().part(3).word(0x80);
    RAMFERRY_TRY(source->send(last.bytes()));
    RAMFERRY_TRY(source->end_round());
    return source->send(StreamBuilder().finish().devices().bytes());
  };
  static_cast<void>(work());
  receiving.join();
  ASSERT_FALSE(received);
  EXPECT_THAT(received.error().message(), ::testing::HasSubstr("4 of 4 pages of RAM never came"));
  EXPECT_EQ(folder_.files(), 0U);
}

TEST_F(HookedTest, PlainStreamsAreRefused) {
  keep("first", 10);
  peers::Waiting waiting(net_);
  auto link = connect(waiting.port(), "pin=demand");
  Receiver receiver(waiting.accepted().value(), {.path = path("second"), .format = Format::stream}, log_);
  const auto received = receiver.run();
  ASSERT_FALSE(received);
  EXPECT_TRUE(received.error().is(errc::unsupported)) << received.error().message();
  std::filesystem::resize_file(path("first"), 0);
  Sender sender(std::move(*link), path("first"), {});
  const auto sent = sender.run();
  ASSERT_FALSE(sent);
  EXPECT_TRUE(sent.error().is(errc::unsupported)) << sent.error().message();
}

}  // namespace
}  // namespace ramferry::checkpoint
