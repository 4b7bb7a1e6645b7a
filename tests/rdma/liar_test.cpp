// SPDX-License-Identifier: MIT
// Ends that lie: one message on its way is replaced by another, and the end that reads it must refuse it
// without having touched anything outside its slots.
#include "message.hpp"
#include "model_pair.hpp"
#include "support/test_memory.hpp"

#include <gmock/gmock.h>

#include <array>
#include <chrono>
#include <functional>
#include <optional>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;
using test::kPage;
using testing::ModelNet;

constexpr SlotId kSlot{3};
constexpr std::size_t kSlotBytes = 64 * kPage;

/// Changes the frame of the first message that it applies to; false if it is not that one.
using Lie = std::function<bool(std::vector<std::byte>&)>;

template <class Original>
Lie instead_of(std::function<Message(const Original&)> lie) {
  return [lie = std::move(lie)](std::vector<std::byte>& bytes) {
    const auto frame = decode(bytes);
    if (!frame || !std::holds_alternative<Original>(frame->message)) return false;
    std::vector<std::byte> changed = encode(lie(std::get<Original>(frame->message)));
    stamp(changed, frame->header);
    bytes = std::move(changed);
    return true;
  };
}

template <class Original>
Lie instead_of(Message lie) {
  return instead_of<Original>([lie = std::move(lie)](const Original&) { return lie; });
}

template <class Original>
Lie with_header(std::function<void(Header&)> change) {
  return [change = std::move(change)](std::vector<std::byte>& bytes) {
    const auto frame = decode(bytes);
    if (!frame || !std::holds_alternative<Original>(frame->message)) return false;
    Header header = frame->header;
    change(header);
    stamp(bytes, header);
    return true;
  };
}

Lie with_grant(std::function<void(Grant&)> change) {
  return instead_of<GrantMessage>([change = std::move(change)](const GrantMessage& honest) {
    GrantMessage lie = honest;
    change(lie.grants.front());
    return Message(lie);
  });
}

Lie lane_fence(std::function<void(LaneFence&)> change) {
  return [change = std::move(change)](std::vector<std::byte>& bytes) {
    const auto honest =
        bytes.size() == kLaneFenceBytes ? decode_lane_fence(bytes) : Result<LaneFence>(LaneFence{});
    if (bytes.size() != kLaneFenceBytes || !honest) return false;
    LaneFence lie = *honest;
    change(lie);
    encode(lie, bytes);
    return true;
  };
}

/// A migration in small: whoever reads the lie must fail, and only the slot may change.
void expect_refused(const char* what, const Lie& lie) {
  SCOPED_TRACE(what);
  ModelNet net;
  test::TestMemory local(kSlotBytes), there(3 * kSlotBytes);
  std::fill(there.bytes().begin(), there.bytes().end(), std::byte{0xaa});
  MemoryLanding landing(there.slice(kSlotBytes, kSlotBytes), MemoryLanding::Content::unknown);
  auto pair = testing::make_pair_on(net, SessionId::random(), "lanes=2&peer-timeout=3");
  ASSERT_TRUE(pair) << pair.error().message();
  ASSERT_TRUE(pair->destination->expose(kSlot, landing));
  bool told = false;
  net.tamper_with([&](unsigned, std::vector<std::byte>& message) { told = told || lie(message); });

  const std::array plan{Placement{.slot = kSlot, .bytes = local.bytes()}};
  const std::array zeros{ZeroRun{kSlot, 0, kPage}};
  const auto run = [&]() -> Result<> {
    RAMFERRY_TRY(pair->source->lend(plan));
    RAMFERRY_TRY(pair->source->place(plan));
    RAMFERRY_TRY(pair->source->send(as_bytes("words")));
    RAMFERRY_TRY_ASSIGN(const Epoch first, pair->source->fence());
    RAMFERRY_TRY(pair->source->settle(first, Deadline::after(20s)));
    RAMFERRY_TRY(pair->source->zero(zeros));
    RAMFERRY_TRY_ASSIGN(const Epoch second, pair->source->fence());
    RAMFERRY_TRY(pair->source->settle(second, Deadline::after(20s)));
    std::array<std::byte, 5> words{};
    RAMFERRY_TRY(receive_exactly(*pair->destination, words, Deadline::after(20s)));
    RAMFERRY_TRY(pair->source->finish(Deadline::after(20s)));
    RAMFERRY_TRY_ASSIGN(const std::size_t end, pair->destination->receive(words, Deadline::after(20s)));
    static_cast<void>(end);
    return pair->destination->send(as_bytes("the end"));
  };
  const Result<> outcome = run();
  EXPECT_FALSE(outcome) << "nobody noticed";
  if (!outcome) {
    EXPECT_TRUE(outcome.error().is(errc::protocol_mismatch) || outcome.error().is(errc::peer_failed) ||
                outcome.error().is(errc::peer_gone) || outcome.error().is(errc::invalid_argument))
        << outcome.error().message();
  }
  pair->source.reset();
  pair->destination.reset();
  EXPECT_TRUE(told) << "the lie was never told";
  EXPECT_TRUE(test::is_all(there.slice(0, kSlotBytes), std::byte{0xaa}));
  EXPECT_TRUE(test::is_all(there.slice(2 * kSlotBytes, kSlotBytes), std::byte{0xaa}));
  EXPECT_EQ(net.counts().regions, 0U);
}

TEST(LyingSource, AsksForWhatIsOutsideOfSlots) {
  expect_refused("beyond the slot",
                 instead_of<WantMessage>(WantMessage{true, {{kSlot, kSlotBytes, kPage, 0}}}));
  expect_refused("over its end", instead_of<WantMessage>(WantMessage{true, {{kSlot, kPage, kSlotBytes, 0}}}));
  expect_refused("wrapping", instead_of<WantMessage>(WantMessage{true, {{kSlot, ~0ULL, 2, 0}}}));
  expect_refused("of another slot", instead_of<WantMessage>(WantMessage{true, {{SlotId{9}, 0, kPage, 0}}}));
}

TEST(LyingSource, SendsWhatDoesNotFit) {
  static const std::vector<std::byte> page(kPage);
  expect_refused("zeros beyond", instead_of<ZeroMessage>(ZeroMessage{{{kSlot, kSlotBytes, 1}}}));
  expect_refused("zeros wrapping", instead_of<ZeroMessage>(ZeroMessage{{{kSlot, kPage, ~0ULL}}}));
  expect_refused("a store beyond", instead_of<BytesMessage>(StoreMessage{kSlot, kSlotBytes - 1, kPage,
                                                                         kRawEncoding, false, page}));
  expect_refused("a store longer than it says",
                 instead_of<BytesMessage>(StoreMessage{kSlot, 0, 1, kRawEncoding, false, page}));
  expect_refused("a store of another slot",
                 instead_of<BytesMessage>(StoreMessage{SlotId{9}, 0, kPage, kRawEncoding, false, page}));
}

TEST(LyingSource, FencesWrongly) {
  expect_refused("an epoch left out", instead_of<FenceMessage>([](const FenceMessage& m) {
                   return Message(FenceMessage{m.epoch + 1, m.lanes, m.writes, m.bytes});
                 }));
  expect_refused("epoch 0", instead_of<FenceMessage>(FenceMessage{}));
  expect_refused("a lane that does not exist", instead_of<FenceMessage>([](const FenceMessage& m) {
                   return Message(FenceMessage{m.epoch, 0b100, m.writes, m.bytes});
                 }));
  expect_refused("more writes than the lanes say", instead_of<FenceMessage>([](const FenceMessage& m) {
                   return Message(FenceMessage{m.epoch, m.lanes, m.writes + 1, m.bytes});
                 }));
  expect_refused("a lane left out", instead_of<FenceMessage>([](const FenceMessage& m) {
                   return Message(FenceMessage{m.epoch, 0, 0, 0});
                 }));
  expect_refused("a lane's bytes", lane_fence([](LaneFence& fence) { ++fence.bytes; }));
  expect_refused("a lane's epoch", lane_fence([](LaneFence& fence) { fence.epoch = 1000; }));
  expect_refused("a lane's old epoch", lane_fence([](LaneFence& fence) { fence.epoch = 0; }));
}

TEST(LyingSource, BreaksTheOrder) {
  expect_refused("a second start", instead_of<BytesMessage>(Start{2}));
  expect_refused("a release of nothing", instead_of<BytesMessage>(ReleaseMessage{{{kSlot, 0, 1}}}));
  expect_refused("an acknowledgement of nothing", instead_of<BytesMessage>(Settled{1}));
}

TEST(LyingDestination, GrantsWhatWasNotAskedFor) {
  expect_refused("beyond", with_grant([](Grant& grant) { grant.offset += kSlotBytes; }));
  expect_refused("too long", with_grant([](Grant& grant) { ++grant.length; }));
  expect_refused("nothing", with_grant([](Grant& grant) { grant.length = 0; }));
  expect_refused("wrapping", with_grant([](Grant& grant) { grant.length = ~0ULL; }));
  expect_refused("around the end of addresses", with_grant([](Grant& grant) { grant.base = ~0ULL; }));
  expect_refused("of another slot", with_grant([](Grant& grant) { grant.slot = SlotId{9}; }));
  expect_refused("twice", instead_of<GrantMessage>([](const GrantMessage& honest) {
                   GrantMessage lie = honest;
                   lie.grants.push_back(honest.grants.front());
                   return Message(lie);
                 }));
  expect_refused("with a key that is none", with_grant([](Grant& grant) { grant.key ^= 0x5555; }));
  expect_refused("by message", instead_of<GrantMessage>(ByMessage{SlotId{9}, kSlotBytes}));
  expect_refused("a smaller slot", with_grant([](Grant& grant) { grant.slot_size = 1; }));
}

TEST(LyingDestination, AcknowledgesWhatIsNotThere) {
  expect_refused("too much", instead_of<Settled>(Settled{1000}));
  expect_refused("nothing", instead_of<Settled>(Settled{0}));
  expect_refused("the first epoch again", [](std::vector<std::byte>& message) {
    const auto frame = decode(message);
    const bool is_first = frame && std::holds_alternative<Settled>(frame->message) &&
                          std::get<Settled>(frame->message).epoch == 1;
    return !is_first && instead_of<Settled>(Settled{1})(message);
  });
}

TEST(LyingEnd, CountsWrongly) {
  expect_refused("credits", with_header<GrantMessage>([](Header& header) { header.credits = 0xffff; }));
  expect_refused("bytes that we did not send",
                 with_header<GrantMessage>([](Header& header) { header.consumed = 1 << 30; }));
  expect_refused("a type that is none", [](std::vector<std::byte>& message) {
    if (message.size() < kHeaderBytes) return false;
    message[0] = std::byte{99};
    return true;
  });
  expect_refused("a length that is not", [](std::vector<std::byte>& message) {
    if (message.size() <= kHeaderBytes || message.size() == kLaneFenceBytes) return false;
    message[7] ^= std::byte{1};
    return true;
  });
  expect_refused("a message that is cut", [](std::vector<std::byte>& message) {
    message.resize(3);
    return true;
  });
}

}  // namespace
}  // namespace ramferry::rdma
