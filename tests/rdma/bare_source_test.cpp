// SPDX-License-Identifier: MIT
// Sources that lie in several messages: the destination gives them up, nothing outside of its slots changes,
// and its listener serves others.
#include "bare_source.hpp"

#include "model_pair.hpp"
#include "support/outcome.hpp"
#include "support/test_memory.hpp"
#include "transport_parts.hpp"

#include <gmock/gmock.h>

#include <future>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;
using test::kPage;
using testing::BareSource;
using testing::ModelNet;
using testing::ModelPlan;

constexpr SlotId kSlot{3};
constexpr std::size_t kSlotBytes = 64 * kPage;
constexpr Encoding kSomeEncoding = 2;

class BareSourceTest : public ::testing::Test {
 protected:
  void listen(const ModelPlan& plan = {}, const std::string& options = "peer-timeout=60") {
    net_ = std::make_unique<ModelNet>(plan);
    transport_ = make_transport_over(log_, net_->make_fabric());
    listener_ = transport_->listen(*Endpoint::parse("rdma:model:0?" + options)).value();
    accepting_ = std::async(std::launch::async, [this] { return listener_->accept(Deadline::after(60s)); });
  }
  std::uint16_t port() const { return listener_->local().port; }
  std::unique_ptr<Channel> accepted() { return std::get<std::unique_ptr<Channel>>(accepting_.get().value()); }
  /// Whether the listener still takes an honest source.
  void expect_serves_another() {
    const auto another = make_transport_over(log_, net_->make_fabric());
    const auto to = Endpoint::parse("rdma:model:" + std::to_string(port()) + "?lanes=2");
    auto source = another->connect(*to, SessionId::random(), Deadline::after(30s));
    EXPECT_TRUE(source) << test::why(source);
    EXPECT_TRUE(accepted());
  }
  /// A session of one lane whose source says `words`, into a slot with others' memory around it.
  std::optional<std::string> farewell_after(const std::vector<Message>& words) {
    listen();
    test::TestMemory there(3 * kSlotBytes);
    std::fill(there.bytes().begin(), there.bytes().end(), std::byte{0xaa});
    MemoryLanding landing(there.slice(kSlotBytes, kSlotBytes), MemoryLanding::Content::unknown);
    BareSource source(*net_, port());
    source.say(Start{1});
    const auto destination = accepted();
    EXPECT_TRUE(destination->expose(kSlot, landing));
    for (const Message& word : words) source.say(word);
    source.say(FenceMessage{.epoch = 1});
    std::optional<std::string> farewell;
    source.hears([&](const Message& message) {
      if (const auto* last = std::get_if<Farewell>(&message)) farewell = last->text;
      return farewell.has_value() || std::holds_alternative<Settled>(message);
    });
    EXPECT_TRUE(test::is_all(there.slice(0, kSlotBytes), std::byte{0xaa}));
    EXPECT_TRUE(test::is_all(there.slice(2 * kSlotBytes, kSlotBytes), std::byte{0xaa}));
    return farewell;
  }

  NullLog log_;
  std::unique_ptr<ModelNet> net_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Listener> listener_;
  std::future<Result<Link>> accepting_;
};

StoreMessage piece(std::uint64_t offset, std::uint64_t length, bool more, std::size_t bytes,
                   Encoding encoding = kSomeEncoding) {
  static const std::vector<std::byte> some(kMostBody, std::byte{0x55});
  return {kSlot, offset, length, encoding, more, ConstBytes(some).first(bytes)};
}

TEST_F(BareSourceTest, IsBelievedAsLongAsItTellsTheTruth) {
  EXPECT_EQ(farewell_after({piece(0, 1000, false, 1000, kRawEncoding), ZeroMessage{{{kSlot, kPage, kPage}}}}),
            std::nullopt);
}

TEST_F(BareSourceTest, MayNotPutTheBytesOfOnePlacementIntoAnother) {
  const std::vector<StoreMessage> others{piece(kSlotBytes - 1, 1, false, 1, kRawEncoding),
                                         piece(0, kPage, false, 100, 3), piece(kPage, kPage, false, 100),
                                         piece(0, kPage - 1, false, 100)};
  for (const StoreMessage& other : others)
    EXPECT_THAT(farewell_after({piece(0, kPage, true, 16000), other}).value_or("none"),
                ::testing::HasSubstr("another one is not complete"));
}

TEST_F(BareSourceTest, MayNotSayNothingOfZeros) {
  EXPECT_THAT(farewell_after({ZeroMessage{}}).value_or("none"), ::testing::HasSubstr("zero runs"));
}

TEST_F(BareSourceTest, WelcomesNobody) {
  listen();
  {
    BareSource source(*net_, port(), 1, 0);
    source.say(Welcome{});
    EXPECT_THAT(source.farewell().value_or("none"), ::testing::HasSubstr("not the peer who welcomes"));
  }
  expect_serves_another();
}

TEST_F(BareSourceTest, MayComeAgainAfterADeviceRefusedItsConnection) {
  for (const unsigned connection : {0U, 1U}) {
    SCOPED_TRACE(connection);
    ModelPlan plan;
    plan.failing_accept = connection;
    listen(plan);
    const auto transport = make_transport_over(log_, net_->make_fabric());
    const auto to = Endpoint::parse("rdma:model:" + std::to_string(port()) + "?lanes=1");
    EXPECT_FALSE(transport->connect(*to, SessionId::random(), Deadline::after(30s)));
    expect_serves_another();
  }
}

}  // namespace
}  // namespace ramferry::rdma
