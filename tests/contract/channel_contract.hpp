// SPDX-License-Identifier: MIT
// Every promise of byte_stream.hpp, channel.hpp and slot.hpp as a test, for any channel.
//
// A subject is one way to get two connected channels; <subject>_contract_test.cpp names it with
// INSTANTIATE_TEST_SUITE_P(…, ChannelContract, …) and is linked with the tests, which are in contract_*.cpp.
// The suite never asks which transport it has: Traits say how patient to be and how much to do, not what to
// expect.
#pragma once

#include "contract/byte_promises.hpp"
#include "support/channel_pair.hpp"
#include "support/landings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <functional>
#include <future>
#include <ostream>
#include <random>
#include <string>
#include <thread>

namespace ramferry::test {

struct ContractSubject {
  std::string name;
  std::function<Result<ChannelPair>(SessionId)> connect;
  ContractTraits traits{};
};
inline std::ostream& operator<<(std::ostream& out, const ContractSubject& subject) {
  return out << subject.name;
}

/// For INSTANTIATE_TEST_SUITE_P: names tests after their subject.
inline std::string subject_name(const ::testing::TestParamInfo<ContractSubject>& info) {
  return info.param.name;
}

inline constexpr SlotId kSlot{7};

/// Two connected ends, `source()` placing into `destination()` unless a test says otherwise.
class ChannelContract : public ::testing::TestWithParam<ContractSubject> {
 protected:
  void SetUp() override { connect(); }
  void TearDown() override { pair_ = {}; }

  Channel& source() const { return *pair_.source; }
  Channel& destination() const { return *pair_.destination; }
  const ContractTraits& traits() const { return GetParam().traits; }
  /// A deadline for what must happen soon.
  Deadline soon() const { return Deadline::after(traits().prompt); }
  /// As byte streams.
  ByteEnds ends() const { return {source(), destination(), traits()}; }

  /// A new pair instead of the old one, whose memory and landings are forgotten.
  void connect();
  void destroy_source() { pair_.source.reset(); }
  void destroy_destination() { pair_.destination.reset(); }

  /// Memory that lives as long as the pair.
  Bytes memory(std::size_t size);
  /// The same, lent to `channel` and prepared, to be placed from `offset` of `slot` on: one that is exposed
  /// already.
  Bytes lent_memory(Channel& channel, std::size_t size, SlotId slot = kSlot, std::uint64_t offset = 0);
  /// Lends `bytes`, to be placed from `offset` of `slot` on, and prepares them.
  void lend(Channel& channel, Bytes bytes, SlotId slot, std::uint64_t offset);
  /// Exposes memory of its own, all bytes 0xaa at first, under `slot`.
  Bytes expose_memory(Channel& channel, SlotId slot, std::size_t size);
  /// Exposes `memory`, which is blank or not.
  MemoryLanding& expose(Channel& channel, SlotId slot, Bytes memory, MemoryLanding::Content content);
  StoringLanding& expose_storing(Channel& channel, SlotId slot, std::uint64_t size,
                                 StoringLanding::Keep keep = StoringLanding::Keep::all);

  /// Runs `call` in a thread.
  template <class Call>
  auto start(Call call) const {
    return Pending<decltype(call())>(
        traits().prompt * 10, [this] { cancel_both(); }, std::move(call));
  }

  /// The outcome of `call`, which is pending (or about to begin) when `end_it` is called, and must end
  /// promptly then.
  template <class Call, class End>
  Result<> outcome_when(Call call, End end_it) const {
    return outcome_of(start(std::move(call)), end_it, traits());
  }

 private:
  void cancel_both() const noexcept;

  std::deque<TestMemory> memories_;
  std::deque<MemoryLanding> landings_;
  std::deque<StoringLanding> storing_;
  ChannelPair pair_;
};

/// Fences and waits for the acknowledgement.
Result<> settle_all(Channel& channel, Deadline deadline);
}  // namespace ramferry::test
