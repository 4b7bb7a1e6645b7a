// SPDX-License-Identifier: MIT
#include "support/faulty_channel.hpp"

#include <algorithm>
#include <random>
#include <utility>

namespace ramferry::test {

FaultPlan FaultPlan::from_seed(std::uint64_t seed, std::uint64_t calls) {
  std::mt19937_64 random(seed);
  FaultPlan plan{.fault = random() % 3 == 0 ? Fault::cancel : Fault::fail,
                 .at_call = 1 + random() % std::max<std::uint64_t>(calls, 1),
                 .seed = seed};
  if (random() % 2 == 0) plan.error = {make_error_code(errc::io), "the link failed on purpose", {}};
  plan.most_delay = std::chrono::microseconds(random() % 2 * 50);
  plan.most_received = random() % 2 == 0 ? plan.most_received : 1 + random() % 5000;
  return plan;
}

FaultyChannel::FaultyChannel(std::unique_ptr<Channel> inner, FaultPlan plan)
    : ForwardingChannel(std::move(inner)), plan_(std::move(plan)) {}

FaultyChannel::~FaultyChannel() {
  if (meanwhile_.joinable()) meanwhile_.join();
}

std::uint64_t FaultyChannel::draw(std::uint64_t number) const noexcept {
  return std::mt19937_64(plan_.seed * 0x9e3779b97f4a7c15ULL + number)();
}

Result<> FaultyChannel::strike() {
  if (plan_.fault == FaultPlan::Fault::none && !plan_.meanwhile) return {};
  struck_ = true;
  const bool cancels = plan_.fault == FaultPlan::Fault::cancel;
  if (cancels || plan_.meanwhile) {
    const std::lock_guard lock(mutex_);
    meanwhile_ = std::thread([this, cancels] {
      if (plan_.meanwhile) plan_.meanwhile();
      if (cancels) cancel();
    });
  }
  if (plan_.fault != FaultPlan::Fault::fail) return {};
  if (!plan_.error.is(errc::timed_out)) {
    broken_ = true;
    ForwardingChannel::cancel();  // ends what other threads wait for, and tells the peer
  }
  return Failure(plan_.error);
}

template <class T>
Result<T> FaultyChannel::attempt(Call call, const std::function<Result<T>()>& make) {
  const std::uint64_t number = ++all_calls_;
  const auto delay = static_cast<std::uint64_t>(plan_.most_delay.count());
  if (delay > 0 && draw(number) % 8 == 0)
    std::this_thread::sleep_for(std::chrono::microseconds(draw(~number) % delay));

  const bool counts = !plan_.only || *plan_.only == call;
  if (counts && ++calls_ == plan_.at_call) RAMFERRY_TRY(strike());
  const bool is_down = broken_ && !cancelled_;
  if (is_down && call != Call::revoke) return Failure(plan_.error);
  Result<T> outcome = make();
  if (!outcome && outcome.error().is(errc::cancelled) && broken_ && !cancelled_) return Failure(plan_.error);
  return outcome;
}

Result<> FaultyChannel::send(ConstBytes bytes) {
  return attempt<void>(Call::send, [&] { return ForwardingChannel::send(bytes); });
}

Result<std::size_t> FaultyChannel::receive(Bytes into, Deadline deadline) {
  const std::size_t most = 1 + static_cast<std::size_t>(draw(all_calls_) % plan_.most_received);
  return attempt<std::size_t>(Call::receive, [&] {
    return ForwardingChannel::receive(into.first(std::min(into.size(), most)), deadline);
  });
}

Result<> FaultyChannel::finish(Deadline deadline) {
  return attempt<void>(Call::finish, [&] { return ForwardingChannel::finish(deadline); });
}

void FaultyChannel::cancel() noexcept {
  cancelled_ = true;
  ForwardingChannel::cancel();
}

Result<> FaultyChannel::expose(SlotId slot, Landing& landing) {
  return attempt<void>(Call::expose, [&] { return ForwardingChannel::expose(slot, landing); });
}

Result<> FaultyChannel::revoke(Deadline deadline) {
  return attempt<void>(Call::revoke, [&] { return ForwardingChannel::revoke(deadline); });
}

Result<> FaultyChannel::lend(std::span<const Placement> plan) {
  return attempt<void>(Call::lend, [&] { return ForwardingChannel::lend(plan); });
}

Result<> FaultyChannel::prepare(ConstBytes range) {
  return attempt<void>(Call::prepare, [&] { return ForwardingChannel::prepare(range); });
}

Result<> FaultyChannel::place(std::span<const Placement> batch) {
  return attempt<void>(Call::place, [&] { return ForwardingChannel::place(batch); });
}

Result<> FaultyChannel::zero(std::span<const ZeroRun> runs) {
  return attempt<void>(Call::zero, [&] { return ForwardingChannel::zero(runs); });
}

Result<Epoch> FaultyChannel::fence() {
  return attempt<Epoch>(Call::fence, [&] { return ForwardingChannel::fence(); });
}

Result<> FaultyChannel::settle(Epoch epoch, Deadline deadline) {
  return attempt<void>(Call::settle, [&] { return ForwardingChannel::settle(epoch, deadline); });
}

}  // namespace ramferry::test
