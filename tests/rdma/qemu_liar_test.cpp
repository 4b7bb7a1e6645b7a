// SPDX-License-Identifier: MIT
// Peers of QEMU's RDMA protocol that lie: ours must notice, and nothing outside its blocks may change.
#include "qemu_peers.hpp"
#include "support/test_memory.hpp"

#include <gmock/gmock.h>

#include <array>
#include <thread>

namespace ramferry::rdma::qemu {
namespace {

using rdma::testing::ModelNet;
using test::kPage;
using testing::kPatience;

constexpr std::size_t kMiB = 1U << 20;
constexpr std::size_t kBlock = 3 * kMiB;

struct Said {
  MessageType type;
  std::uint32_t repeat;
  std::vector<std::byte> data;
};

Said ask_for_blocks() {
  return {MessageType::blocks_request, 1, {}};
}
Said zero(const Zero& zero) {
  return {MessageType::zero, 1, records(zero)};
}
Said want(const RegisterRequest& request) {
  return {MessageType::register_request, 1, records(request)};
}

/// What our destination answers to a source that says this in a round, each as soon as it may.
Result<> taken(const std::vector<Said>& words, bool pin_all = false) {
  ModelNet net;
  testing::Waiting waiting(net);
  const auto source = testing::bare_source(net, waiting.port(), pin_all);
  const auto destination = testing::hooked(waiting.accepted().value());
  test::TestMemory there(3 * kBlock);
  std::fill(there.bytes().begin(), there.bytes().end(), std::byte{0xaa});
  MemoryLanding landing(there.slice(kBlock, kBlock), MemoryLanding::Content::unknown);
  EXPECT_TRUE(destination->land({&landing}));
  std::thread telling([&] {
    for (const Said& each : words) {
      if (!source->send_when_ready(each.type, each.repeat, each.data)) return;
      const bool answered = each.type == MessageType::blocks_request ||
                            each.type == MessageType::register_request ||
                            each.type == MessageType::unregister_request;
      if (answered && !source->next(Deadline::after(kPatience))) return;
    }
  });
  const Result<> result = destination->take_round();
  destination->cancel();
  source->cancel();
  telling.join();
  EXPECT_TRUE(test::is_all(there.slice(0, kBlock), std::byte{0xaa}));
  EXPECT_TRUE(test::is_all(there.slice(2 * kBlock, kBlock), std::byte{0xaa}));
  return result;
}

void expect_refused(const char* what, const std::vector<Said>& words) {
  const auto result = taken(words);
  ASSERT_FALSE(result) << what;
  EXPECT_TRUE(result.error().is(errc::protocol_mismatch) || result.error().is(errc::unsupported))
      << what << ": " << result.error().message();
}

TEST(QemuLyingSource, IsServedAsLongAsItTellsTheTruth) {
  const auto result = taken({ask_for_blocks(),
                             zero({0, 0, 4096, kMiB}),
                             want({2 * kMiB, 0, 0}),
                             want({0, 0, ~0ULL}),
                             {MessageType::unregister_request, 1, records(RegisterRequest{0, 0, 0})},
                             {MessageType::round_over, 1, {}}});
  EXPECT_TRUE(result) << result.error().message();
}

TEST(QemuLyingSource, CannotReachBeyondABlock) {
  expect_refused("a zero behind the end", {ask_for_blocks(), zero({0, 0, kBlock, 1})});
  expect_refused("a zero over the end", {ask_for_blocks(), zero({0, 0, kBlock - kPage, 2 * kPage})});
  expect_refused("a zero that wraps around", {ask_for_blocks(), zero({0, 0, kPage, ~0ULL})});
  expect_refused("a zero far away", {ask_for_blocks(), zero({0, 0, ~0ULL, 1})});
  expect_refused("a zero in no block", {ask_for_blocks(), zero({0, 1, 0, kPage})});
  expect_refused("a registration behind the end", {ask_for_blocks(), want({kBlock, 0, 0})});
  expect_refused("a registration far away", {ask_for_blocks(), want({~0ULL, 0, 0})});
  expect_refused("a registration in no block", {ask_for_blocks(), want({0, 7, 0})});
  expect_refused("forgetting what is in no block",
                 {ask_for_blocks(), {MessageType::unregister_request, 1, records(RegisterRequest{0, 7, 0})}});
}

TEST(QemuLyingSource, CannotLeaveTheOrder) {
  expect_refused("zeroing before asking", {zero({0, 0, 0, kPage})});
  expect_refused("registering before asking", {want({0, 0, 0})});
  expect_refused("asking twice", {ask_for_blocks(), ask_for_blocks()});
  expect_refused("bytes in a round", {{MessageType::stream, 1, std::vector<std::byte>(4)}});
  expect_refused("an answer", {{MessageType::unregister_result, 1, {}}});
  expect_refused("another fill", {ask_for_blocks(), zero({7, 0, 0, kPage})});
}

TEST(QemuLyingSource, CannotMakeUsRegisterForEver) {
  std::vector<Said> words{ask_for_blocks()};
  for (std::uint64_t chunk = 0; chunk < 3; ++chunk)
    for (std::uint64_t more = 0; more < 3; ++more) words.push_back(want({chunk * kMiB, 0, more}));
  expect_refused("more registrations than chunks", words);
}

TEST(QemuLyingSource, IsToldThatWeGaveUp) {
  ModelNet net;
  testing::Waiting waiting(net);
  const auto source = testing::bare_source(net, waiting.port(), false);
  const auto destination = testing::hooked(waiting.accepted().value());
  test::TestMemory there(kBlock);
  MemoryLanding landing(there.bytes(), MemoryLanding::Content::blank);
  ASSERT_TRUE(destination->land({&landing}));
  std::thread telling([&] {
    EXPECT_TRUE(source->send_when_ready(MessageType::zero, 1, records(Zero{0, 0, 0, kPage})));
    const auto answer = source->next(Deadline::after(kPatience));
    ASSERT_FALSE(answer);
    EXPECT_TRUE(answer.error().is(errc::peer_failed)) << answer.error().message();
  });
  EXPECT_FALSE(destination->take_round());
  telling.join();
}

TEST(QemuLyingSource, CannotSpeakOutOfTurnOrHangUpInARound) {
  ModelNet net;
  {
    testing::Waiting waiting(net);
    const auto source = testing::bare_source(net, waiting.port(), false);
    const auto destination = testing::hooked(waiting.accepted().value());
    std::thread telling([&] { EXPECT_TRUE(source->send_when_ready(MessageType::round_over, 1, {})); });
    std::array<std::byte, 8> bytes{};
    const auto got = destination->receive(bytes, Deadline::after(kPatience));
    telling.join();
    ASSERT_FALSE(got);
    EXPECT_TRUE(got.error().is(errc::protocol_mismatch)) << got.error().message();
  }
  testing::Waiting waiting(net);
  auto source = testing::bare_source(net, waiting.port(), false);
  const auto destination = testing::hooked(waiting.accepted().value());
  test::TestMemory there(kBlock);
  MemoryLanding landing(there.bytes(), MemoryLanding::Content::blank);
  ASSERT_TRUE(destination->land({&landing}));
  source.reset();
  const auto taken = destination->take_round();
  ASSERT_FALSE(taken);
  EXPECT_TRUE(taken.error().is(errc::peer_gone)) << taken.error().message();
}

/// Our source against a destination that answers the first request for blocks and the first registration so.
Result<> sent(const Said& blocks, const std::optional<Said>& registered) {
  ModelNet net;
  auto acceptor = net.make_fabric()->listen({"model", 0}, {}).value();
  const auto transport = make_transport_over(testing::no_log(), net.make_fabric());
  const auto to =
      Endpoint::parse("rdma:model:" + std::to_string(acceptor->local().port) + "?dialect=qemu&pin=demand");
  auto connecting = std::async(std::launch::async, [&] {
    return testing::hooked(transport->connect(*to, SessionId::random(), Deadline::after(kPatience)).value());
  });
  auto request = acceptor->next(Deadline::after(kPatience)).value();
  auto link = QemuLink::make(testing::no_log(), request->open_domain(64).value()).value();
  link->attach(request->accept(link->domain(), link->shape(), link->receives(), encode(Greeting{})).value());
  const auto source = connecting.get();
  std::thread answering([&] {
    const auto answer = [&](const Said& said) -> Result<> {
      RAMFERRY_TRY(link->send(MessageType::ready, 1, {}));
      RAMFERRY_TRY_ASSIGN(const auto asked, link->next(Deadline::after(kPatience)));
      return asked ? link->send(said.type, said.repeat, said.data) : Result<>{};
    };
    if (!answer(blocks) || !registered) return;
    if (!link->send(MessageType::ready, 1, {}) || !link->next(Deadline::after(kPatience)))
      return;  // round over
    static_cast<void>(answer(*registered));
  });
  const std::array<std::uint64_t, 1> sizes{kBlock};
  const auto work = [&]() -> Result<> {
    RAMFERRY_TRY(source->agree(sizes, {}));
    RAMFERRY_TRY_ASSIGN(const Bytes into, source->stage({0, 0, kPage}));
    static_cast<void>(into);
    return source->end_round();
  };
  const Result<> result = work();
  source->cancel();
  link->cancel();
  answering.join();
  return result;
}

TEST(QemuLyingDestination, IsNotWrittenTo) {
  const auto blocks = [](const Block& block) {
    return Said{MessageType::blocks_result, 1, records(std::array{block})};
  };
  const auto keys = [](std::span<const RegisterResult> results) {
    return Said{MessageType::register_result, 1, records(results)};
  };
  const Said honest = blocks({1ULL << 40, 0, kBlock, 0});
  const std::array one{RegisterResult{12345, 1ULL << 40}};
  const std::array two{RegisterResult{1, 1}, RegisterResult{2, 2}};
  const auto refused = [](const char* what, const Result<>& result, errc how) {
    ASSERT_FALSE(result) << what;
    EXPECT_TRUE(result.error().is(how)) << what << ": " << result.error().message();
  };
  refused("no blocks", sent({MessageType::round_over, 1, {}}, {}), errc::protocol_mismatch);
  refused("bytes", sent({MessageType::stream, 1, std::vector<std::byte>(32)}, {}), errc::protocol_mismatch);
  refused("another size", sent(blocks({0, 0, kBlock - kPage, 0}), {}), errc::protocol_mismatch);
  refused("a block that wraps", sent(blocks({~0ULL - kPage, 0, kBlock, 0}), {}), errc::protocol_mismatch);
  refused("two keys for one request", sent(honest, keys(two)), errc::protocol_mismatch);
  refused("no key", sent(honest, Said{MessageType::unregister_result, 1, {}}), errc::protocol_mismatch);
  refused("it failed", sent(honest, Said{MessageType::error, 1, {}}), errc::peer_failed);
  // A key to nothing is for its device to refuse.
  EXPECT_FALSE(sent(honest, keys(one)));
}

}  // namespace
}  // namespace ramferry::rdma::qemu
