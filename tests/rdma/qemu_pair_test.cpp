// SPDX-License-Identifier: MIT
// Both ends of QEMU's RDMA protocol against each other, on a fabric that reorders what it may.
#include "model_pair.hpp"
#include "qemu_peers.hpp"
#include "support/outcome.hpp"
#include "support/test_memory.hpp"

#include <gmock/gmock.h>

#include <array>
#include <random>
#include <thread>

namespace ramferry::rdma::qemu {
namespace {

using rdma::testing::ModelNet;
using test::kPage;
using test::TestMemory;
using testing::kPatience;
using testing::Pair;
using Range = HookedStream::Range;

constexpr std::size_t kMiB = 1U << 20;

/// A machine's RAM at both ends.
struct Rams {
  explicit Rams(std::vector<std::size_t> block_sizes) : sizes(block_sizes.begin(), block_sizes.end()) {
    for (const std::size_t size : block_sizes) {
      here.emplace_back(size);
      there.emplace_back(size);
      landings.push_back(
          std::make_unique<MemoryLanding>(there.back().bytes(), MemoryLanding::Content::blank));
      raw.push_back(landings.back().get());
    }
  }
  bool same() const {
    for (std::size_t i = 0; i < here.size(); ++i)
      if (!std::equal(here[i].bytes().begin(), here[i].bytes().end(), there[i].bytes().begin())) return false;
    return true;
  }
  std::vector<std::uint64_t> sizes;
  std::vector<TestMemory> here, there;
  std::vector<std::unique_ptr<MemoryLanding>> landings;
  std::vector<Landing*> raw;
};

Result<> stage_all(HookedStream& stream, const Rams& rams, Range range) {
  while (range.length > 0) {
    RAMFERRY_TRY_ASSIGN(const Bytes into, stream.stage(range));
    const ConstBytes from = rams.here[range.block].slice(range.offset, into.size());
    std::copy(from.begin(), from.end(), into.begin());
    range.offset += into.size();
    range.length -= into.size();
  }
  return {};
}

/// Takes `rounds` in on a thread of its own while the source does as it is told.
void run_rounds(Pair& pair, Rams& rams, unsigned rounds, const std::function<Result<>()>& at_source) {
  ASSERT_TRUE(pair.destination->land(rams.raw));
  std::thread taking([&] {
    for (unsigned i = 0; i < rounds; ++i) {
      const auto taken = pair.destination->take_round();
      ASSERT_TRUE(taken) << taken.error().message();
    }
  });
  const auto sent = at_source();
  EXPECT_TRUE(sent) << sent.error().message();
  if (!sent) pair.source->cancel(), pair.destination->cancel();
  taking.join();
}

TEST(QemuPair, CarriesBytesInTheirOrder) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  std::vector<std::byte> sent(300'000), got(sent.size());
  test::fill_pattern(sent, 5);
  std::thread sending([&] {
    EXPECT_TRUE(pair.source->send(ConstBytes(sent).first(7)));
    EXPECT_TRUE(pair.source->send(ConstBytes(sent).subspan(7)));
    EXPECT_TRUE(pair.source->finish(Deadline::after(kPatience)));
    pair.source.reset();
  });
  EXPECT_TRUE(receive_exactly(*pair.destination, got, Deadline::after(kPatience)));
  EXPECT_EQ(got, sent);
  // The source goes on only when we have what it said, and this end hangs up first.
  pair.destination.reset();
  sending.join();
}

TEST(QemuPair, EndsWhereTheSourceHangsUp) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  std::thread sending([&] { EXPECT_TRUE(pair.source->send(as_bytes("words"))); });
  std::array<std::byte, 5> words{};
  EXPECT_TRUE(receive_exactly(*pair.destination, words, Deadline::after(kPatience)));
  sending.join();
  pair.source.reset();
  const auto end = pair.destination->receive(words, Deadline::after(kPatience));
  ASSERT_TRUE(end) << end.error().message();
  EXPECT_EQ(*end, 0U);
}

// A stock source tears its end down as soon as its last message was acknowledged; that we are ready for
// another one may then fail in any way, and the machine is here nevertheless.
TEST(QemuPair, EndsWhereTheSourceHangsUpHoweverTheLastWordToItFails) {
  for (const FabricErrc error :
       {FabricErrc::remote_operation, FabricErrc::remote_access, FabricErrc::flushed}) {
    ModelNet net;
    Pair pair = testing::make_pair(net);
    std::thread sending([&] { EXPECT_TRUE(pair.source->send(as_bytes("words"))); });
    std::array<std::byte, 5> words{};
    EXPECT_TRUE(receive_exactly(*pair.destination, words, Deadline::after(kPatience)));
    sending.join();
    net.fail_next(0, error);
    const auto posts = net.counts().posts;
    std::thread hanging_up([&] {
      while (net.counts().posts == posts) std::this_thread::yield();
      pair.source.reset();
    });
    const auto end = pair.destination->receive(words, Deadline::after(kPatience));
    hanging_up.join();
    ASSERT_TRUE(end) << end.error().message();
    EXPECT_EQ(*end, 0U);
  }
}

TEST(QemuPair, FailsIfTheSourceStaysToWhichAWordFailed) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  net.fail_next(0, FabricErrc::remote_operation);
  std::array<std::byte, 5> words{};
  const auto end = pair.destination->receive(words, Deadline::after(kPatience));
  ASSERT_FALSE(end);
  EXPECT_TRUE(end.error().is(errc::peer_failed)) << end.error().message();
}

TEST(QemuPair, ReceiveLeavesTheStreamAsItWasWhenItsTimeIsOver) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  std::array<std::byte, 5> words{};
  for (int i = 0; i < 3; ++i) {
    const auto none = pair.destination->receive(words, Deadline::after(std::chrono::milliseconds(1)));
    ASSERT_FALSE(none);
    EXPECT_TRUE(none.error().is(errc::timed_out)) << none.error().message();
  }
  std::thread sending([&] { EXPECT_TRUE(pair.source->send(as_bytes("words"))); });
  EXPECT_TRUE(receive_exactly(*pair.destination, words, Deadline::after(kPatience)));
  sending.join();
}

class QemuRounds : public ::testing::TestWithParam<std::string> {};

TEST_P(QemuRounds, MakeTheDestinationsRamThatOfTheSource) {
  for (unsigned seed = 1; seed <= test::repetitions(3, 100); ++seed) {
    ModelNet net({.seed = seed, .partial_posts = 0.3});
    Pair pair = testing::make_pair(net, GetParam());
    Rams rams({5 * kMiB + 3 * kPage, kPage, 20 * kMiB});
    std::mt19937_64 random(seed);
    // A range belongs to a page or a few, to content or to zeros: what a checkpoint is made of.
    std::vector<std::pair<Range, bool>> pieces;
    std::vector<Range> plan;
    for (std::uint32_t block = 0; block < rams.sizes.size(); ++block) {
      for (std::uint64_t at = 0; at < rams.sizes[block];) {
        const std::uint64_t length =
            std::min(rams.sizes[block] - at, (1 + random() % 40) * kPage * (1 + random() % 9));
        const bool zero = random() % 3 == 0;
        pieces.push_back({{block, at, length}, zero});
        if (!zero) plan.push_back(pieces.back().first);
        at += length;
      }
    }
    // What is zeroed was not zero: in the first of two rounds everything has content.
    const auto work = [&]() -> Result<> {
      RAMFERRY_TRY(pair.source->agree(rams.sizes, plan));
      for (const auto& [range, zero] : pieces) {
        test::fill_pattern(rams.here[range.block].slice(range.offset, range.length), random());
        RAMFERRY_TRY(stage_all(*pair.source, rams, range));
      }
      RAMFERRY_TRY(pair.source->end_round());
      for (const auto& [range, zero] : pieces) {
        const Bytes memory = rams.here[range.block].slice(range.offset, range.length);
        if (zero) {
          std::fill(memory.begin(), memory.end(), std::byte{0});
          RAMFERRY_TRY(pair.source->zero(range));
        } else if (random() % 2 == 0) {
          test::fill_pattern(memory, random());
          RAMFERRY_TRY(stage_all(*pair.source, rams, range));
        }
      }
      return pair.source->end_round();
    };
    run_rounds(pair, rams, 3, work);
    EXPECT_TRUE(rams.same()) << "seed " << seed;
    EXPECT_EQ(net.counts().collisions, 0U);
    pair.destination->close_windows();
    EXPECT_EQ(net.counts().remotely_writable_bytes, 0U);
  }
}

TEST_P(QemuRounds, SayHowMuchIsWrittenAndZeroed) {
  ModelNet net;
  Pair pair = testing::make_pair(net, GetParam());
  Rams rams({8 * kMiB});
  run_rounds(pair, rams, 2, [&]() -> Result<> {
    RAMFERRY_TRY(pair.source->agree(rams.sizes, {{0, 0, kMiB}}));
    RAMFERRY_TRY(stage_all(*pair.source, rams, {0, 0, kMiB}));
    RAMFERRY_TRY(pair.source->zero({0, kMiB, 7 * kMiB}));
    return pair.source->end_round();
  });
  EXPECT_EQ(pair.source->stats().placed_bytes_sent, kMiB);
  EXPECT_EQ(pair.source->stats().zero_bytes_sent, 7 * kMiB);
  EXPECT_EQ(pair.destination->stats().zero_bytes_received, 7 * kMiB);
  EXPECT_EQ(net.counts().written_bytes, kMiB);
}

INSTANTIATE_TEST_SUITE_P(Pinning, QemuRounds,
                         ::testing::Values("pin=all", "pin=demand&chunk=1M", "pin=demand"));

TEST(QemuRound, WritesAdjacentPagesTogether) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  Rams rams({2 * kMiB});
  run_rounds(pair, rams, 2, [&]() -> Result<> {
    RAMFERRY_TRY(pair.source->agree(rams.sizes, {{0, 0, 2 * kMiB}}));
    for (std::uint64_t page = 0; page < 256; ++page) {
      const Range range{0, page * kPage, kPage};
      RAMFERRY_TRY(page % 3 == 0 ? pair.source->zero(range) : stage_all(*pair.source, rams, range));
    }
    return pair.source->end_round();
  });
  EXPECT_EQ(net.counts().writes, 1U);
}

TEST(QemuRound, RegistersOnlyRunsThatAreWritten) {
  ModelNet net;
  Pair pair = testing::make_pair(net, "pin=demand&chunk=2M");
  Rams rams({64 * kMiB});
  run_rounds(pair, rams, 2, [&]() -> Result<> {
    RAMFERRY_TRY(pair.source->agree(rams.sizes, {{0, 5 * kMiB, kPage}}));
    RAMFERRY_TRY(pair.source->zero({0, 8 * kMiB, 56 * kMiB}));
    RAMFERRY_TRY(stage_all(*pair.source, rams, {0, 5 * kMiB, kPage}));
    return pair.source->end_round();
  });
  EXPECT_EQ(net.counts().remotely_writable_bytes, 2 * kMiB);
  EXPECT_LT(test::resident_pages(rams.there[0].bytes()), 3U) << "zeroing what was never touched touches it";
}

/// As a stock source asks: 1 MiB after the other.
TEST(QemuDestination, GetsTheNextChunkReadyForASourceThatGoesInOrder) {
  ModelNet net;
  Pair pair = testing::make_pair(net, "pin=demand&chunk=1M");
  Rams rams({64 * kMiB});
  test::fill_pattern(rams.here[0].slice(0, 8 * kMiB), 6);
  test::fill_pattern(rams.here[0].slice(20 * kMiB, kMiB), 7);
  run_rounds(pair, rams, 2, [&]() -> Result<> {
    RAMFERRY_TRY(pair.source->agree(rams.sizes, {{0, 0, 8 * kMiB}, {0, 20 * kMiB, kMiB}}));
    RAMFERRY_TRY(stage_all(*pair.source, rams, {0, 0, 8 * kMiB}));
    RAMFERRY_TRY(stage_all(*pair.source, rams, {0, 20 * kMiB, kMiB}));
    return pair.source->end_round();
  });
  EXPECT_TRUE(rams.same());
  EXPECT_EQ(net.counts().remotely_writable_bytes, 10 * kMiB)
      << "eight, one ahead of them, and the lonely one";
  pair.destination->close_windows();
  EXPECT_EQ(net.counts().remotely_writable_bytes, 0U);
}

/// A QEMU 7.2 does not survive a no.
TEST(QemuDestination, GrantsPinAllWhateverItPinsItself) {
  ModelNet net;
  const Pair pair = testing::make_pair(net, "pin=all", "pin=demand");
  EXPECT_THAT(pair.source->facts(), ::testing::Contains(std::pair<std::string, std::string>("pin", "all")));
}

TEST(QemuDestination, RefusesToPinMoreThanItMayBeforeItMakesAnyOfIt) {
  rdma::testing::ModelPlan plan;
  plan.device.lockable_bytes = 48 * kMiB;
  ModelNet net(plan);
  Pair pair = testing::make_pair(net, "pin=all");
  Rams rams({64 * kMiB});
  ASSERT_TRUE(pair.destination->land(rams.raw));
  Result<> taken;
  std::thread taking([&] { taken = pair.destination->take_round(); });
  const auto agreed = pair.source->agree(rams.sizes, {});
  taking.join();
  ASSERT_FALSE(agreed);
  EXPECT_TRUE(agreed.error().is(errc::peer_failed)) << agreed.error().message();
  ASSERT_FALSE(taken);
  EXPECT_TRUE(taken.error().is(errc::memory_lock_limit));
  EXPECT_THAT(taken.error().message(), ::testing::HasSubstr("RLIMIT_MEMLOCK is 48 MiB"));
  EXPECT_EQ(test::resident_pages(rams.there[0].bytes()), 0U);
}

TEST(QemuDestination, CannotBeWrittenToAfterItsWindowsClosed) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  Rams rams({4 * kMiB});
  run_rounds(pair, rams, 2, [&]() -> Result<> {
    RAMFERRY_TRY(pair.source->agree(rams.sizes, {{0, 0, kMiB}}));
    RAMFERRY_TRY(stage_all(*pair.source, rams, {0, 0, kMiB}));
    return pair.source->end_round();
  });
  pair.destination->close_windows();
  test::fill_pattern(rams.here[0].slice(0, kMiB), 9);
  EXPECT_TRUE(stage_all(*pair.source, rams, {0, 0, kMiB}));
  EXPECT_FALSE(pair.source->end_round());
  EXPECT_TRUE(test::is_all(rams.there[0].bytes(), std::byte{0}));
  EXPECT_FALSE(pair.destination->take_round());
}

TEST(QemuSource, NamesABlockOfAnotherSize) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  Rams rams({kMiB, 2 * kMiB});
  ASSERT_TRUE(pair.destination->land(rams.raw));
  std::thread taking([&] { EXPECT_FALSE(pair.destination->take_round()); });
  const std::array<std::uint64_t, 2> sizes{kMiB, 3 * kMiB};
  const auto agreed = pair.source->agree(sizes, {});
  pair.source.reset();
  taking.join();
  ASSERT_FALSE(agreed);
  EXPECT_TRUE(agreed.error().is(errc::protocol_mismatch));
  EXPECT_THAT(agreed.error().message(), ::testing::HasSubstr("number 1 has 2 MiB at the destination"));
}

TEST(QemuSource, DoesNotSayThatARoundIsOverOfWhichAWriteWasLost) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  Rams rams({kMiB});
  ASSERT_TRUE(pair.destination->land(rams.raw));
  std::thread taking([&] {
    EXPECT_TRUE(pair.destination->take_round());
    EXPECT_FALSE(pair.destination->take_round());
  });
  EXPECT_TRUE(pair.source->agree(rams.sizes, {}));
  // The destination has allowed the source three messages: so it does not wait for anything, which would
  // tell.
  const Deadline patience = Deadline::after(kPatience);
  while (net.counts().sends < 6 && !patience.passed()) std::this_thread::yield();
  EXPECT_EQ(net.counts().sends, 6U);
  net.report(0, {std::make_error_code(std::errc::invalid_argument), "posting", false});
  const auto ended = pair.source->end_round();
  pair.source.reset();
  taking.join();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, std::errc::invalid_argument) << ended.error().message();
}

TEST(QemuSource, RefusesRangesThatNoBlockHas) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  Rams rams({kMiB});
  run_rounds(pair, rams, 1, [&]() -> Result<> { return pair.source->agree(rams.sizes, {}); });
  for (const Range range :
       {Range{1, 0, kPage}, Range{0, kMiB, kPage}, Range{0, 0, 2 * kMiB}, Range{0, 0, 0}}) {
    EXPECT_TRUE(pair.source->stage(range).error().is(errc::invalid_argument));
    EXPECT_TRUE(pair.source->zero(range).error().is(errc::invalid_argument));
  }
}

TEST(QemuListener, TakesStockAndNativeSourcesAtOnePort) {
  ModelNet net;
  testing::Waiting waiting(net);
  const auto link = testing::bare_source(net, waiting.port(), true);
  auto first = waiting.accepted();
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_TRUE(std::holds_alternative<std::unique_ptr<ByteStream>>(*first));
  const auto transport = make_transport_over(testing::no_log(), net.make_fabric());
  auto accepting =
      std::async(std::launch::async, [&] { return waiting.listener().accept(Deadline::after(kPatience)); });
  const auto to = Endpoint::parse("rdma:model:" + std::to_string(waiting.port()));
  const auto native = transport->connect(*to, SessionId::random(), Deadline::after(kPatience));
  EXPECT_TRUE(native) << native.error().message();
  auto second = accepting.get();
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_TRUE(std::holds_alternative<std::unique_ptr<Channel>>(*second));
}

TEST(QemuListener, ServesOthersWhileAStrangerDoesNotConfirm) {
  ModelNet net(rdma::testing::ModelPlan{.unconfirmed = 0});
  auto acceptor = net.make_fabric()->listen({"model", 0}, {});
  ASSERT_TRUE(acceptor);
  Options options;
  options.making_time = std::chrono::hours(1);  // it is not forgotten before the test is over
  const auto listener =
      make_listener(testing::no_log(), std::move(*acceptor), *Endpoint::parse("rdma:model:0"), options)
          .value();
  auto accepting =
      std::async(std::launch::async, [&] { return listener->accept(Deadline::after(kPatience)); });
  const std::uint16_t port = listener->local().port;
  const auto stranger = testing::bare_source(net, port, false);

  const auto transport = make_transport_over(testing::no_log(), net.make_fabric());
  const auto to = Endpoint::parse("rdma:model:" + std::to_string(port));
  const auto source = transport->connect(*to, SessionId::random(), Deadline::after(kPatience));
  EXPECT_TRUE(source) << test::why(source);
  const auto accepted = accepting.get();
  ASSERT_TRUE(accepted) << test::why(accepted);
  EXPECT_TRUE(std::holds_alternative<std::unique_ptr<Channel>>(*accepted));

  // And another QEMU.
  accepting = std::async(std::launch::async, [&] { return listener->accept(Deadline::after(kPatience)); });
  const auto another = testing::bare_source(net, port, false);
  const auto stream = accepting.get();
  ASSERT_TRUE(stream) << test::why(stream);
  EXPECT_TRUE(std::holds_alternative<std::unique_ptr<ByteStream>>(*stream));
}

TEST(QemuListener, ForgetsAStrangerThatDoesNotConfirm) {
  ModelNet net(rdma::testing::ModelPlan{.unconfirmed = 0});
  auto acceptor = net.make_fabric()->listen({"model", 0}, {});
  ASSERT_TRUE(acceptor);
  Options options;
  options.making_time = std::chrono::milliseconds(1);
  const auto listener =
      make_listener(testing::no_log(), std::move(*acceptor), *Endpoint::parse("rdma:model:0"), options)
          .value();
  auto accepting =
      std::async(std::launch::async, [&] { return listener->accept(Deadline::after(kPatience)); });
  const auto stranger = testing::bare_source(net, listener->local().port, false);
  const auto left = stranger->next(Deadline::after(kPatience));
  ASSERT_TRUE(left) << test::why(left);
  EXPECT_FALSE(*left) << "the listener hung up";
  listener->cancel();
  EXPECT_FALSE(accepting.get());
}

TEST(QemuListener, RefusesTheDialectThatItWasToldNotToSpeak) {
  ModelNet net;
  const auto transport = make_transport_over(testing::no_log(), net.make_fabric());
  for (const auto& [spoken, other] : {std::pair("native", "qemu"), std::pair("qemu", "native")}) {
    testing::Waiting waiting(net, std::string("dialect=") + spoken);
    const auto to = Endpoint::parse("rdma:model:" + std::to_string(waiting.port()) + "?dialect=" + other);
    EXPECT_FALSE(transport->connect(*to, SessionId::random(), Deadline::after(kPatience)));
    waiting.listener().cancel();
    EXPECT_TRUE(waiting.accepted().error().is(errc::cancelled));
  }
}

TEST(QemuPair, NoticesAPeerThatIsCutOff) {
  ModelNet net;
  Pair pair = testing::make_pair(net, "peer-timeout=1", "peer-timeout=1");
  net.cut();
  std::array<std::byte, 5> words{};
  const auto received = pair.destination->receive(words, Deadline::after(kPatience));
  ASSERT_FALSE(received);
  EXPECT_TRUE(received.error().is(errc::peer_gone)) << received.error().message();
  const auto finished = pair.source->finish(Deadline::after(kPatience));
  ASSERT_FALSE(finished);
  EXPECT_TRUE(finished.error().is(errc::peer_gone)) << finished.error().message();
}

TEST(QemuPair, BearsAPeerThatHasNothingToSay) {
  ModelNet net;
  Pair pair = testing::make_pair(net, "peer-timeout=1", "peer-timeout=1");
  std::array<std::byte, 5> words{};
  const auto none = pair.destination->receive(words, Deadline::after(std::chrono::milliseconds(2500)));
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.error().is(errc::timed_out)) << none.error().message();
  std::thread sending([&] { EXPECT_TRUE(pair.source->send(as_bytes("words"))); });
  EXPECT_TRUE(receive_exactly(*pair.destination, words, Deadline::after(kPatience)));
  sending.join();
  EXPECT_GE(net.counts().looks, 2U);
}

TEST(QemuPair, CancelEndsWhateverWaits) {
  ModelNet net;
  Pair pair = testing::make_pair(net);
  Rams rams({kMiB});
  ASSERT_TRUE(pair.destination->land(rams.raw));
  std::thread taking([&] {
    const auto taken = pair.destination->take_round();
    ASSERT_FALSE(taken);
    EXPECT_TRUE(taken.error().is(errc::cancelled)) << taken.error().message();
  });
  pair.destination->cancel();
  taking.join();
  pair.source->cancel();
  const auto sent = pair.source->agree(rams.sizes, {});
  ASSERT_FALSE(sent);
  EXPECT_TRUE(sent.error().is(errc::cancelled)) << sent.error().message();
}

}  // namespace
}  // namespace ramferry::rdma::qemu
