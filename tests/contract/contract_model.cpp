// SPDX-License-Identifier: MIT
// Random sequences of all that a sending thread may do, against a model of what the peer must then have.
#include "contract/channel_contract.hpp"

#include <array>
#include <cstring>

namespace ramferry::test {
namespace {

/// One direction: memory here, a landing there, and for every byte the epoch that will settle it.
class Model {
 public:
  Model(Channel& from, Bytes local, Bytes landing, std::uint64_t seed)
      : from_(from),
        local_(local),
        landing_(landing),
        expected_(landing.begin(), landing.end()),
        unsettled_(landing.size(), 0),
        random_(seed) {}

  Result<> run(unsigned steps) {
    for (unsigned step = 0; step < steps; ++step) {
      const Result<> outcome = do_something();
      if (!outcome) return within(outcome.error(), "step " + std::to_string(step));
    }
    RAMFERRY_TRY(fence());
    return settle(next_epoch_ - 1);
  }
  const std::vector<std::byte>& sent() const noexcept { return sent_; }

 private:
  struct Range {
    std::size_t offset = 0, length = 0;
  };

  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(random_() % bound); }

  Result<> do_something() {
    const std::size_t choice = below(100);
    if (choice < 40) return place();
    if (choice < 60) return zero();
    if (choice < 75) return fence();
    if (choice < 90) return send();
    return settle(below(next_epoch_));
  }

  /// Up to eight ranges that are neither outstanding nor overlap: pages or odd pieces, single or adjacent.
  std::vector<Range> pick_ranges() {
    std::vector<Range> ranges;
    for (std::size_t left = 1 + below(8); left > 0; --left) {
      Range range{below(local_.size() / kPage) * kPage, kPage};
      if (below(4) == 0) range = {below(local_.size() - 20000), 1 + below(20000)};
      if (!ranges.empty() && below(4) == 0) range.offset = ranges.back().offset + ranges.back().length;
      if (range.offset + range.length > local_.size() || is_outstanding(range)) continue;
      std::fill_n(unsettled_.begin() + static_cast<std::ptrdiff_t>(range.offset), range.length, next_epoch_);
      ranges.push_back(range);
    }
    return ranges;
  }

  bool is_outstanding(const Range& range) const {
    for (std::size_t i = range.offset; i < range.offset + range.length; ++i)
      if (unsettled_[i] > settled_) return true;
    return false;
  }

  Result<> place() {
    std::vector<Placement> batch;
    for (const Range& range : pick_ranges()) {
      const Bytes bytes = local_.subspan(range.offset, range.length);
      fill_pattern(bytes, random_());
      std::memcpy(expected_.data() + range.offset, bytes.data(), bytes.size());
      batch.push_back({.slot = kSlot, .offset = range.offset, .bytes = bytes});
    }
    return from_.place(batch);
  }

  Result<> zero() {
    std::vector<ZeroRun> runs;
    for (const Range& range : pick_ranges()) {
      std::memset(expected_.data() + range.offset, 0, range.length);
      runs.push_back({kSlot, range.offset, range.length});
    }
    return from_.zero(runs);
  }

  Result<> fence() {
    RAMFERRY_TRY_ASSIGN(const Epoch epoch, from_.fence());
    if (epoch != next_epoch_) return fail(errc::io, "the epoch is " + std::to_string(epoch));
    ++next_epoch_;
    return {};
  }

  Result<> send() {
    std::vector<std::byte> bytes(below(below(10) == 0 ? 50000 : 500));
    fill_pattern(bytes, random_());
    sent_.insert(sent_.end(), bytes.begin(), bytes.end());
    return from_.send(bytes);
  }

  Result<> settle(Epoch epoch) {
    RAMFERRY_TRY(from_.settle(epoch, Deadline::never()));
    settled_ = std::max(settled_, epoch);
    if (from_.settled() < epoch) return fail(errc::io, "settled() lags behind settle()");
    return compare();
  }

  /// What is settled must be there; the rest may be anything between before and after.
  Result<> compare() const {
    for (std::size_t i = 0; i < expected_.size(); ++i)
      if (unsettled_[i] <= settled_ && landing_[i] != expected_[i])
        return fail(errc::io,
                    "after epoch " + std::to_string(settled_) + " byte " + std::to_string(i) + " is wrong");
    return {};
  }

  Channel& from_;
  const Bytes local_, landing_;
  std::vector<std::byte> expected_;
  std::vector<Epoch> unsettled_;
  std::vector<std::byte> sent_;
  std::mt19937_64 random_;
  Epoch next_epoch_ = 1, settled_ = 0;
};

TEST_P(ChannelContract, RandomSequencesLeaveBothEndsAlike) {
  constexpr std::size_t kArea = 64 * kPage;
  const unsigned seeds = repetitions(5, 200);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    connect();
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto model_of = [&](Channel& from, Channel& to, std::uint64_t of) {
      const Bytes landing = expose_memory(to, kSlot, kArea);
      const Bytes local = seed % 3 == 0 ? memory(kArea) : lent_memory(from, kArea);
      return Model(from, local, landing, of);
    };
    Model there = model_of(source(), destination(), seed * 2),
          back = model_of(destination(), source(), seed * 2 + 1);
    const auto run = [](Model& model, Channel& from) {
      return [&model, &from]() -> Result<> {
        RAMFERRY_TRY(model.run(300));
        return from.finish(Deadline::never());
      };
    };
    auto running_there = start(run(there, source())), running_back = start(run(back, destination()));
    auto receiving_back = start([&] { return receive_all(source(), Deadline::never()); });
    const auto received = receive_all(destination(), Deadline::never());
    RAMFERRY_ASSERT_OK(running_there.get());
    RAMFERRY_ASSERT_OK(running_back.get());
    const auto received_back = receiving_back.get();
    RAMFERRY_ASSERT_OK(received);
    RAMFERRY_ASSERT_OK(received_back);
    ASSERT_TRUE(*received == there.sent());
    ASSERT_TRUE(*received_back == back.sent());
  }
}

}  // namespace
}  // namespace ramferry::test
