// SPDX-License-Identifier: MIT
// Every promise of byte_stream.hpp, channel.hpp and slot.hpp as a test, for any channel.
//
// A subject is one way to get two connected channels; <subject>_contract_test.cpp names it with
// INSTANTIATE_TEST_SUITE_P(…, ChannelContract, …) and is linked with the tests, which are in contract_*.cpp.
// The suite never asks which transport it has: Traits say how patient to be and how much to do, not what to
// expect.
#pragma once

#include "support/channel_pair.hpp"
#include "support/landings.hpp"
#include "support/test_memory.hpp"

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

struct ContractTraits {
  /// Within this every pending call ends after a cancel, or after the peer was destroyed.
  std::chrono::milliseconds prompt{5000};
  /// More than all buffers between the two ends together hold.
  std::size_t bulk_bytes = 32U << 20;
  /// Rounds of what races on purpose.
  unsigned races = 2000;
  /// Connections made and broken by each test that cancels or destroys at random moments.
  unsigned breaks = 40;
};

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

/// A call in a thread of its own. It must end within the subject's patience: a call that hangs ends the
/// program with a message, for there is no way to take a hanging thread down. If nobody asks for the value
/// any more (an assertion failed), `give_up` is called so that it ends.
template <class T>
class Pending {
 public:
  Pending(std::chrono::milliseconds patience, std::function<void()> give_up, std::function<T()> call)
      : patience_(patience),
        give_up_(std::move(give_up)),
        future_(std::async(std::launch::async, std::move(call))) {}
  Pending(Pending&&) = default;
  ~Pending() {
    if (!future_.valid() || is_over()) return;
    give_up_();
    get();
  }
  bool is_over() const { return future_.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }
  /// The value, once it is there.
  T get() {
    if (future_.wait_for(patience_) != std::future_status::ready) {
      std::fprintf(stderr, "a call did not end in time\n");
      std::abort();
    }
    return future_.get();
  }

 private:
  std::chrono::milliseconds patience_;
  std::function<void()> give_up_;
  std::future<T> future_;
};

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

  /// Runs `call` in a thread. Longer than prompt(), for calls that move much.
  template <class Call>
  auto start(Call call) const {
    return Pending<decltype(call())>(
        traits().prompt * 10, [this] { cancel_both(); }, std::move(call));
  }

  /// The outcome of `call`, which is pending (or about to begin) when `end_it` is called, and must end
  /// promptly then.
  template <class Call, class End>
  Result<> outcome_when(Call call, End end_it) const {
    auto pending = start(std::move(call));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // makes it likely that it is pending
    const auto before = std::chrono::steady_clock::now();
    end_it();
    Result<> outcome = pending.get();
    EXPECT_LT(std::chrono::steady_clock::now() - before, traits().prompt);
    return outcome;
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
/// Receives until the other end finished.
Result<std::vector<std::byte>> receive_all(Channel& channel, Deadline deadline);
/// What a failed call says; "success" for one that did not fail.
template <class T>
std::string why(const Result<T>& result) {
  return result ? "success" : result.error().message();
}
template <class T>
bool failed_with(const Result<T>& result, errc condition) {
  return !result && result.error().is(condition);
}

}  // namespace ramferry::test

#define RAMFERRY_EXPECT_OK(expression)                                                           \
  do {                                                                                           \
    const auto& outcome_ = (expression);                                                         \
    EXPECT_TRUE(outcome_.has_value()) << #expression << ": " << ::ramferry::test::why(outcome_); \
  } while (false)
#define RAMFERRY_ASSERT_OK(expression)                                                           \
  do {                                                                                           \
    const auto& outcome_ = (expression);                                                         \
    ASSERT_TRUE(outcome_.has_value()) << #expression << ": " << ::ramferry::test::why(outcome_); \
  } while (false)
#define RAMFERRY_EXPECT_FAILS(condition, expression)                                                    \
  do {                                                                                                  \
    const auto& outcome_ = (expression);                                                                \
    EXPECT_TRUE(::ramferry::test::failed_with(outcome_, condition))                                     \
        << #expression << " should fail with " #condition ", not: " << ::ramferry::test::why(outcome_); \
  } while (false)
