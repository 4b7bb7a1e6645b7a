// SPDX-License-Identifier: MIT
// Sequences of control messages and lane fences, as both halves of a channel take them in: whatever is said
// in whatever order, nothing outside of the exposed slot changes, and what is registered is inside of it.
#include "fuzz/replay.hpp"
#include "inbound.hpp"
#include "outbound.hpp"
#include "rdma/fabric_model.hpp"
#include "rdma/sample_messages.hpp"
#include "support/test_memory.hpp"

#include <algorithm>
#include <array>
#include <variant>

using namespace ramferry;
using namespace ramferry::rdma;

namespace {

constexpr SlotId kSlot{1};
constexpr std::size_t kSlotBytes = 4 * test::kPage;
constexpr std::byte kOthers{0xaa};

template <class... Branches>
struct Overloaded : Branches... {
  using Branches::operator()...;
};
template <class... Branches>
Overloaded(Branches...) -> Overloaded<Branches...>;

/// Both halves of a channel whose connections lead nowhere, and the work that its threads would do.
class Ends {
 public:
  explicit Ends(testing::ModelNet& net)
      : core_(log_, {}, net.make_fabric()->open_towards({"model", 1}, {}, 64, Deadline::never()).value()),
        control_(ControlLink::make(core_, 0, 1U << 16).value()),
        inbound_(core_, *control_, 1, [] {}),
        outbound_(core_, *control_, [] {}) {
    std::fill(there_.bytes().begin(), there_.bytes().end(), kOthers);
    const auto id = [](std::uint32_t lane) { return std::uint64_t{lane} << 32; };
    RAMFERRY_FUZZ_CHECK(inbound_.prepare_lanes(id) && outbound_.prepare_lanes(1, 16, id));
    RAMFERRY_FUZZ_CHECK(inbound_.expose(kSlot, landing_).has_value());
    const std::array plan{Placement{.slot = kSlot, .bytes = local_.bytes()}};
    RAMFERRY_FUZZ_CHECK(outbound_.lend(plan).has_value());
  }

  /// False if it was refused.
  bool take(ConstBytes piece) {
    Lock lock(core_.mutex);
    if (piece.size() == kLaneFenceBytes && decode_lane_fence(piece)) {
      std::copy(piece.begin(), piece.end(), inbound_.receive(0, 0).into);
      return inbound_.on_lane(0, 0, kLaneFenceBytes) && work(lock);
    }
    auto frame = decode(piece);
    return frame && dispatch(lock, *frame) && work(lock);
  }

  void check() {
    const auto is_others = [](std::byte each) { return each == kOthers; };
    const Bytes before = there_.slice(0, kSlotBytes), after = there_.slice(2 * kSlotBytes, kSlotBytes);
    RAMFERRY_FUZZ_CHECK(std::all_of(before.begin(), before.end(), is_others));
    RAMFERRY_FUZZ_CHECK(std::all_of(after.begin(), after.end(), is_others));
  }

 private:
  Result<> dispatch(Lock& lock, Frame& frame) {
    const std::uint64_t data = frame.data_bytes;
    return std::visit(Overloaded{[&](const BytesMessage& m) { return inbound_.on_message(m); },
                                 [&](ZeroMessage& m) { return inbound_.on_message(std::move(m), data); },
                                 [&](const StoreMessage& m) { return inbound_.on_message(m, data); },
                                 [&](const Finish&) -> Result<> {
                                   inbound_.on_finish();
                                   return {};
                                 },
                                 [&](const WantMessage& m) { return inbound_.on_message(m); },
                                 [&](const ReleaseMessage& m) { return inbound_.on_message(lock, m); },
                                 [&](const FenceMessage& m) { return inbound_.on_message(m); },
                                 [&](const GrantMessage& m) { return outbound_.on_message(m); },
                                 [&](const ByMessage& m) { return outbound_.on_message(m); },
                                 [&](const Reclaim& m) -> Result<> {
                                   outbound_.on_message(m);
                                   return {};
                                 },
                                 [&](const Settled& m) { return outbound_.on_message(m); },
                                 [&](const Revoked& m) { return outbound_.on_message(m); },
                                 // The rest is the channel's own: tests/rdma/bare_source_test.cpp.
                                 [](const auto&) { return Result<>(); }},
                      frame.message);
  }

  bool work(Lock& lock) {
    while (!core_.failure && (inbound_.work(lock) || outbound_.work(lock) || inbound_.apply(lock))) continue;
    return !core_.failure;
  }

  NullLog log_;
  test::TestMemory local_{kSlotBytes}, there_{3 * kSlotBytes};
  MemoryLanding landing_{there_.slice(kSlotBytes, kSlotBytes), MemoryLanding::Content::unknown};
  Core core_;
  std::unique_ptr<ControlLink> control_;
  Inbound inbound_;
  Outbound outbound_;
};

/// Each with its length before it.
fuzz::Input conversation(const std::vector<fuzz::Input>& pieces) {
  fuzz::Input bytes;
  WireWriter writer(bytes);
  for (const fuzz::Input& piece : pieces) writer.u16(static_cast<std::uint16_t>(piece.size())).raw(piece);
  return bytes;
}

fuzz::Input lane_fence(const LaneFence& fence) {
  fuzz::Input bytes(kLaneFenceBytes);
  encode(fence, bytes);
  return bytes;
}

StoreMessage store(std::uint64_t offset, std::uint64_t length, Encoding encoding, bool more,
                   std::size_t bytes) {
  static const std::vector<std::byte> some(test::kPage, std::byte{7});
  return {kSlot, offset, length, encoding, more, ConstBytes(some).first(bytes)};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static testing::ModelNet net;
  Ends ends(net);
  WireReader reader(fuzz::input(data, size));
  while (reader.left() > 0) {
    const std::size_t length = reader.u16();
    const ConstBytes piece = reader.raw(std::min<std::size_t>(length, reader.left()));
    if (!reader.ok() || !ends.take(piece)) break;
  }
  ends.check();
  return 0;
}

std::vector<fuzz::Input> fuzz::seeds() {
  std::vector<Input> all;
  for (const Message& message : one_of_each()) all.push_back(conversation({encode(message)}));
  constexpr std::uint64_t kLast = kSlotBytes - 1;
  all.push_back(conversation({encode(store(0, test::kPage, kRawEncoding, false, test::kPage)),
                              encode(store(kLast, 1, kRawEncoding, false, 1)),
                              encode(ZeroMessage{{{kSlot, 0, test::kPage}, {kSlot, kLast, 1}}}),
                              encode(FenceMessage{.epoch = 1}), encode(BytesMessage{as_bytes("words")}),
                              encode(FenceMessage{.epoch = 2}), encode(Finish{})}));
  all.push_back(
      conversation({encode(store(0, test::kPage, 2, true, 200)), encode(store(0, test::kPage, 2, true, 100)),
                    encode(store(0, test::kPage, 2, false, 50))}));
  // What a source once got by with.
  all.push_back(conversation(
      {encode(store(0, test::kPage, 2, true, 200)), encode(store(kLast, 1, kRawEncoding, false, 1))}));
  all.push_back(conversation({encode(WantMessage{true, {{kSlot, 0, test::kPage, test::kPage}}}),
                              encode(WantMessage{false, {{kSlot, 3 * test::kPage, test::kPage, 0}}}),
                              encode(ReleaseMessage{{{kSlot, 0, 2 * test::kPage}}}),
                              encode(WantMessage{true, {{kSlot, 0, kSlotBytes, 0}}})}));
  all.push_back(conversation({encode(FenceMessage{1, 1, 2, 300}), lane_fence({1, 2, 300}),
                              lane_fence({2, 1, 10}), encode(FenceMessage{2, 1, 1, 10})}));
  all.push_back(conversation({encode(GrantMessage{{{kSlot, 0, kSlotBytes, 0, 5, kSlotBytes}}}),
                              encode(Reclaim{kSlotBytes}), encode(ByMessage{kSlot, kSlotBytes}),
                              encode(Revoked{true})}));
  return all;
}
