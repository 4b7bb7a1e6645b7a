// SPDX-License-Identifier: MIT
// Pages that go as changes or compressed: all are right at the destination, and the statistics say what was
// saved.
#include "reporting_rig.hpp"
#include "support/faulty_channel.hpp"

#include <ramferry/tcp/transport.hpp>
#include <ramferry/traits.hpp>

#include <gmock/gmock.h>

#include <atomic>
#include <cstring>

namespace ramferry::test {
namespace {

using namespace ramferry::migration;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// Changes a few words of every page after each of the first rounds, on the migration thread. What is written
/// after round n is found by the harvest that ends round n + 1, and sent in round n + 2.
struct Scribbler final : Observer {
  Scribbler(ReportingRig& on, std::uint32_t rounds, std::size_t words_a_page)
      : reporting(on), until(rounds), words(words_a_page) {
    reporting.rig.observer = this;
  }
  void on_state(State /*from*/, State /*to*/) noexcept override { reporting.log->mark(0, 0, kPage); }
  void on_round(const RoundReport& report) noexcept override {
    if (report.round > until) return;
    while (report.round == 1 && reporting.difference())
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Bytes memory = reporting.rig.source.layout()[0].host;
    for (std::size_t page = 0; page < memory.size(); page += kPage)
      for (std::size_t word = 0; word < words; ++word) {
        const std::uint64_t value = random();
        const std::size_t offset = page + random() % (kPage / 8) * 8;
        guest_writes(memory.subspan(offset, sizeof value), std::as_bytes(std::span(&value, 1)));
      }
    reporting.log->mark(0, 0, memory.size());
  }
  ReportingRig& reporting;
  const std::uint32_t until;
  const std::size_t words;
  std::mt19937_64 random{5};
};

/// Text-like: short runs of the same byte.
void fill_text(Bytes memory) {
  std::mt19937_64 random(3);
  for (std::size_t at = 0; at < memory.size();) {
    const auto letter = static_cast<std::byte>('a' + random() % 26);
    for (std::size_t run = 1 + random() % 30; run > 0 && at < memory.size(); --run) memory[at++] = letter;
  }
}

MigrationRig::Options options(PageCoding coding, std::size_t pages = 512) {
  return {
      .vm = {.pages = {pages}, .seed = 4}, .limits = {.downtime = 0ms}, .timeout = 20s, .coding = [coding] {
        return coding;
      }};
}

/// The in-process channel, as if it wrote into memory directly.
PairTransport::MakePair direct_loopback() {
  struct Direct final : FaultyChannel, PlacesDirectly {
    explicit Direct(std::unique_ptr<Channel> inner) : FaultyChannel(std::move(inner), FaultPlan{}) {}
  };
  return [](SessionId session) {
    ChannelPair pair = make_loopback_pair({.session = session});
    return ChannelPair{std::make_unique<Direct>(std::move(pair.source)), std::move(pair.destination)};
  };
}

/// Lets a migration of a guest that writes end once it has gone through `rounds`.
void relax_after(ReportingRig& reporting, std::uint32_t rounds) {
  reporting.rig.meanwhile = [rounds](OutgoingMigration& outgoing) {
    while (outgoing.status().round < rounds && outgoing.status().state < State::device)
      std::this_thread::yield();
    outgoing.set_limits({.downtime = 10s});
  };
}

void expect_same(const Outcome& outcome, const ReportingRig& reporting) {
  ASSERT_TRUE(outcome.source) << outcome.source.error().message();
  ASSERT_TRUE(outcome.destination) << outcome.destination.error().message();
  EXPECT_EQ(reporting.difference(), std::nullopt);
}

TEST(Xbzrle, SendsWhatChangedFromTheSecondTimeOn) {
  ReportingRig reporting(options({.xbzrle = true}));
  fill_pattern(reporting.rig.source.layout()[0].host, 9);
  Scribbler scribbler(reporting, 4, 3);
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_same(outcome, reporting);
  const XbzrleCounts& counts = *outcome.source_status.xbzrle;
  EXPECT_EQ(counts.cache_misses, 0u) << "the first round is what later ones are compared with";
  EXPECT_EQ(counts.pages, 3 * 512u + 1) << "rounds 3 to 5, and one page in round 2; then nothing is new";
  EXPECT_EQ(counts.overflows, 0u);
  EXPECT_LT(counts.bytes * 10, counts.pages * kPage) << "three words of a page are less than a tenth of it";
  EXPECT_EQ(outcome.source_status.pages.normal, 512u);
}

/// W5, as the benchmarks call it: in each round five pages of a hundred, anywhere, one byte of a hundred in
/// each, in runs of eight bytes.
struct FivePercent final : Observer {
  explicit FivePercent(ReportingRig& on) : reporting(on) { on.rig.observer = this; }
  void on_round_begin(std::uint32_t round) noexcept override {
    if (round == 1 || round > 1 + kRounds) return;
    const Bytes memory = reporting.rig.source.layout()[0].host;
    const std::size_t pages = memory.size() / kPage;
    for (std::size_t written = 0; written < pages / 20; ++written) {
      const Bytes page = memory.subspan(random() % pages * kPage, kPage);
      for (std::size_t run = 0; run < kPage / 100 / 8; ++run)
        for (std::byte& each : page.subspan(random() % (kPage / 8) * 8, 8)) each ^= std::byte{0x5a};
      reporting.log->mark(0, static_cast<std::size_t>(page.data() - memory.data()), kPage);
    }
  }
  static constexpr std::uint32_t kRounds = 10;
  ReportingRig& reporting;
  std::mt19937_64 random{5};
};

TEST(Xbzrle, SendsTenTimesFewerBytesOfPagesThatChangedByOnePercent) {
  struct Sent {
    double first, later;
  };
  const auto sent = [](PageCoding coding, const char* address) {
    ReportingRig reporting(options(coding, 4096));
    fill_pattern(reporting.rig.source.layout()[0].host, 9);
    const FivePercent w5(reporting);
    NullLog log;
    TransportCatalog transports;
    transports.add(make_tcp_transport(log));
    const Outcome outcome = reporting.rig.migrate(transports, address);
    expect_same(outcome, reporting);
    const double first = static_cast<double>(outcome.source_status.rounds.at(0).wire_bytes);
    return Sent{first, static_cast<double>(outcome.source_status.stream.wire_bytes_sent) - first};
  };
  for (const char* address : {"tcp:127.0.0.1:0", "tcp:127.0.0.1:0?dialect=qemu"}) {
    const Sent plain = sent({}, address), changes = sent({.xbzrle = true}, address);
    std::printf("%s: plain %.0f + %.0f bytes, as changes %.0f + %.0f: %.1f times fewer\n", address,
                plain.first, plain.later, changes.first, changes.later, plain.later / changes.later);
    EXPECT_GE(plain.later, 10 * changes.later) << address;
    EXPECT_LT(changes.first, 1.01 * plain.first) << "the first round goes as it is";
  }
}

TEST(Xbzrle, PagesThatChangedAllOverGoInFull) {
  ReportingRig reporting(options({.xbzrle = true}, 64));
  fill_pattern(reporting.rig.source.layout()[0].host, 9);
  Scribbler scribbler(reporting, 3, 4096);
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_same(outcome, reporting);
  EXPECT_GT(outcome.source_status.xbzrle->overflows, 0u);
}

TEST(Xbzrle, CacheThatIsTooSmallOnlyMissesAndIsResizedLive) {
  std::atomic<std::uint64_t> bytes = kPage;
  MigrationRig::Options small = options({});
  small.coding = [&bytes] { return PageCoding{.xbzrle = true, .cache_bytes = bytes}; };
  ReportingRig reporting(std::move(small));
  fill_pattern(reporting.rig.source.layout()[0].host, 9);
  Scribbler scribbler(reporting, 6, 2);
  struct Resize final : Observer {
    Resize(Scribbler& first, std::atomic<std::uint64_t>& size) : before(first), cache(size) {}
    void on_state(State from, State to) noexcept override { before.on_state(from, to); }
    void on_round(const RoundReport& report) noexcept override {
      if (report.round == 3) cache = 1024 * kPage;
      before.on_round(report);
    }
    Scribbler& before;
    std::atomic<std::uint64_t>& cache;
  } resize(scribbler, bytes);
  reporting.rig.observer = &resize;
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_same(outcome, reporting);
  EXPECT_EQ(outcome.source_status.xbzrle->cache_bytes, 1024 * kPage);
  EXPECT_GE(outcome.source_status.xbzrle->pages, 2 * 512u);
  EXPECT_GT(outcome.source_status.xbzrle->cache_misses, 512u);
}

TEST(Xbzrle, PagesThatBecameZeroAreForgotten) {
  ReportingRig reporting(options({.xbzrle = true}, 64));
  const Bytes memory = reporting.rig.source.layout()[0].host;
  fill_pattern(memory, 9);
  struct Blink final : Observer {
    explicit Blink(ReportingRig& on) : reporting(on) {}
    void on_state(State /*from*/, State /*to*/) noexcept override { reporting.log->mark(0, 0, kPage); }
    void on_round(const RoundReport& report) noexcept override {
      if (report.round > 5) return;
      while (report.round == 1 && reporting.difference())
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const Bytes all = reporting.rig.source.layout()[0].host;
      std::vector<std::byte> content(all.size());
      if (report.round % 2 != 0) fill_pattern(content, 7);  // the same again
      guest_writes(all, content);
      reporting.log->mark(0, 0, all.size());
    }
    ReportingRig& reporting;
  } blink(reporting);
  reporting.rig.observer = &blink;
  expect_same(reporting.rig.migrate(loopback()), reporting);
}

class Compression : public ::testing::TestWithParam<PageCoding> {};

TEST_P(Compression, BringsEveryPageOverInFewerBytes) {
  ReportingRig reporting(options(GetParam(), 4096));
  fill_text(reporting.rig.source.layout()[0].host);
  Scribbler scribbler(reporting, 2, 1);
  const Outcome outcome = reporting.rig.migrate(loopback(7));  // placements between fences come in any order
  expect_same(outcome, reporting);
  const CompressionCounts& counts = *outcome.source_status.compression;
  EXPECT_GT(counts.pages, 0u);
  EXPECT_EQ(counts.pages + counts.declined_pages, 3 * 4096u + 2) << "and the page written at the pause";
  EXPECT_EQ(counts.declined_pages, outcome.source_status.pages.normal);
  if (GetParam().level != 0) {
    EXPECT_LT(counts.bytes * 2, counts.pages * kPage);
  }
}
INSTANTIATE_TEST_SUITE_P(
    All, Compression,
    ::testing::Values(PageCoding{.compress = true, .level = 0},
                      PageCoding{.compress = true, .threads = 1, .decompress_threads = 1},
                      PageCoding{.compress = true, .level = 9, .threads = 8, .decompress_threads = 3},
                      PageCoding{.compress = true, .method = CompressMethod::zstd, .threads = 3}));

TEST(Encodings, BothTogetherUnderAGuestThatWrites) {
  for (const char* address : {"tcp:127.0.0.1:0", "tcp:127.0.0.1:0?lanes=3", "tcp:127.0.0.1:0?dialect=qemu"}) {
    SCOPED_TRACE(address);
    MigrationRig::Options both = options({.xbzrle = true, .cache_bytes = 256 * kPage, .compress = true});
    both.vm = {.pages = {2000, 64}, .seed = 8, .writers = 2, .hot_share = 0.1};
    ReportingRig reporting(std::move(both));
    relax_after(reporting, 8);
    NullLog log;
    TransportCatalog transports;
    transports.add(make_tcp_transport(log));
    const Outcome outcome = reporting.rig.migrate(transports, address);
    expect_same(outcome, reporting);
    EXPECT_GT(outcome.source_status.compression->pages + outcome.source_status.compression->declined_pages,
              0u);
    EXPECT_GT(outcome.source_status.xbzrle->pages + outcome.source_status.xbzrle->cache_misses, 0u);
  }
}

TEST(Encodings, AreRefusedWhereTheTransportPlacesDirectly) {
  for (const PageCoding& coding : {PageCoding{.xbzrle = true}, PageCoding{.compress = true}}) {
    ReportingRig reporting(options(coding));
    const Outcome outcome = reporting.rig.migrate(direct_loopback());
    ASSERT_FALSE(outcome.source);
    EXPECT_TRUE(outcome.source.error().is(errc::unsupported)) << outcome.source.error().message();
    EXPECT_THAT(outcome.source.error().message(), HasSubstr("straight into the other end's memory"));
    EXPECT_TRUE(outcome.source_runs);
  }
}

TEST(Encodings, ZstdIsRefusedInQemusDialect) {
  MigrationRig::Options zstd = options({.compress = true, .method = CompressMethod::zstd});
  ReportingRig reporting(std::move(zstd));
  NullLog log;
  TransportCatalog transports;
  transports.add(make_tcp_transport(log));
  const Outcome outcome = reporting.rig.migrate(transports, "tcp:127.0.0.1:0?dialect=qemu");
  ASSERT_FALSE(outcome.source);
  EXPECT_THAT(outcome.source.error().message(), HasSubstr("know zlib only"));
}

TEST(AutoConverge, ThrottlesTheGuestStepwiseAndLetsGoAfterwards) {
  MigrationRig::Options busy = options({});
  busy.limits.throttling = {.on = true, .initial = 30, .increment = 30};
  ReportingRig reporting(std::move(busy));
  fill_pattern(reporting.rig.source.layout()[0].host, 9);
  Scribbler scribbler(reporting, 8, 1);
  const Outcome outcome = reporting.rig.migrate(loopback());
  expect_same(outcome, reporting);
  EXPECT_EQ(reporting.rig.source.throttles(), (std::vector<int>{30, 60, 90, 99, 0}));
  EXPECT_EQ(outcome.source_status.throttle_percent, 0);
}

}  // namespace
}  // namespace ramferry::test
