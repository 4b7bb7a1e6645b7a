// SPDX-License-Identifier: MIT
// A channel that breaks on purpose: wraps any other, and fails, delays, shortens or cancels as planned.
//
// Threads and ownership are those of Channel. To break a whole procedure everywhere: run it once with no
// fault, ask calls(), then run it again for each number from 1 to that.
#pragma once

#include <ramferry/forwarding_channel.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>

namespace ramferry::test {

enum class Call : std::uint8_t {
  send,
  receive,
  finish,
  expose,
  revoke,
  lend,
  prepare,
  place,
  zero,
  fence,
  settle
};

struct FaultPlan {
  enum class Fault : std::uint8_t {
    none,
    fail,    ///< the call returns `error`; if that is not errc::timed_out, the link is down and the peer sees
             ///< it
    cancel,  ///< cancel() is called from another thread while the call is made
  };
  Fault fault = Fault::none;
  std::uint64_t at_call = 1;  ///< counted from 1
  std::optional<Call> only;   ///< count these only
  Error error{make_error_code(errc::peer_gone), "the link was dropped on purpose", {}};
  std::function<void()> meanwhile;  ///< called from another thread while call `at_call` is made

  // Harmless: what any channel may do.
  std::chrono::microseconds most_delay{0};                              ///< before one call in eight
  std::size_t most_received = std::numeric_limits<std::size_t>::max();  ///< bytes per receive, at random
  std::uint64_t seed = 1;

  /// A fault drawn from `seed`, at one of the first `calls` calls, with short receives and delays.
  static FaultPlan from_seed(std::uint64_t seed, std::uint64_t calls);
};

class FaultyChannel : public ForwardingChannel {
 public:
  FaultyChannel(std::unique_ptr<Channel> inner, FaultPlan plan);
  ~FaultyChannel() override;

  /// Calls made so far, of the planned kind. Any thread.
  std::uint64_t calls() const noexcept { return calls_; }
  /// Whether the planned fault has happened. Any thread.
  bool has_struck() const noexcept { return struck_; }

  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  Result<> finish(Deadline deadline) override;
  void cancel() noexcept override;

  Result<> expose(SlotId slot, Landing& landing) override;
  Result<> revoke(Deadline deadline) override;
  Result<> lend(std::span<const Placement> plan) override;
  Result<> prepare(ConstBytes range) override;
  Result<> place(std::span<const Placement> batch) override;
  Result<> zero(std::span<const ZeroRun> runs) override;
  Result<Epoch> fence() override;
  Result<> settle(Epoch epoch, Deadline deadline) override;

 private:
  /// Counts the call, and does to it what was planned.
  template <class T>
  Result<T> attempt(Call call, const std::function<Result<T>()>& make);
  Result<> strike();
  /// A number that depends on the seed and the call.
  std::uint64_t draw(std::uint64_t number) const noexcept;

  const FaultPlan plan_;
  std::atomic<std::uint64_t> calls_{0}, all_calls_{0};
  std::atomic<bool> struck_{false}, broken_{false}, cancelled_{false};
  std::mutex mutex_;
  std::thread meanwhile_;  ///< guarded by mutex_
};

}  // namespace ramferry::test
