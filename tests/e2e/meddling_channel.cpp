// SPDX-License-Identifier: MIT
#include "meddling_channel.hpp"

namespace ramferry::test {
namespace {

class MeddlingChannel final : public Channel {
 public:
  MeddlingChannel(std::unique_ptr<Channel> inner, std::shared_ptr<Meddling> meddling, End end)
      : inner_(std::move(inner)), meddling_(std::move(meddling)), end_(end) {}

  Result<> send(ConstBytes bytes) override {
    return through([&] { return inner_->send(bytes); });
  }
  Result<> finish(Deadline deadline) override {
    return through([&] { return inner_->finish(deadline); }, deadline);
  }
  Result<> expose(SlotId slot, Landing& landing) override {
    return through([&] { return inner_->expose(slot, landing); });
  }
  Result<> revoke(Deadline deadline) override {
    return through([&] { return inner_->revoke(deadline); }, deadline);
  }
  Result<> lend(std::span<const Placement> plan) override {
    return through([&] { return inner_->lend(plan); });
  }
  Result<> prepare(ConstBytes range) override {
    return through([&] { return inner_->prepare(range); });
  }
  Result<> place(std::span<const Placement> batch) override {
    std::vector<Placement> changed(batch.begin(), batch.end());
    if (meddling_->placements) meddling_->placements(changed);
    return through([&] { return inner_->place(changed); });
  }
  Result<> zero(std::span<const ZeroRun> runs) override {
    std::vector<ZeroRun> changed(runs.begin(), runs.end());
    if (meddling_->zeros) meddling_->zeros(changed);
    return through([&] { return inner_->zero(changed); });
  }
  Result<Epoch> fence() override {
    return through([&] { return inner_->fence(); });
  }
  Result<> settle(Epoch epoch, Deadline deadline) override {
    return through([&] { return inner_->settle(epoch, deadline); }, deadline);
  }
  Epoch settled() const noexcept override { return inner_->settled(); }
  SessionId session() const noexcept override { return inner_->session(); }

  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    auto got = inner_->receive(into, deadline);
    if (!got || *got == 0) return got;
    return through([&]() -> Result<std::size_t> { return got; });
  }
  void cancel() noexcept override {
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      changed_.notify_all();
    }
    inner_->cancel();
  }
  StreamStats stats() const noexcept override { return inner_->stats(); }
  Facts facts() const override { return inner_->facts(); }

 private:
  /// Does `call`, unless the link is cut before it or it is the one that sticks.
  template <class Call>
  auto through(Call call, Deadline deadline = Deadline::never()) -> decltype(call()) {
    const std::uint64_t number = ++meddling_->calls[static_cast<int>(end_)];
    if (meddling_->stuck_at == number && meddling_->stuck_end == end_) {
      meddling_->stuck = true;
      std::unique_lock lock(mutex_);
      const auto when = std::min(deadline.when(), std::chrono::steady_clock::now() + std::chrono::hours(1));
      if (!changed_.wait_until(lock, when, [this] { return cancelled_; }))
        return fail(errc::timed_out, "using a link that is stuck");
    }
    if (meddling_->cut_at != number || meddling_->cut_end != end_) return call();
    if (meddling_->cut_after) (void)call();
    meddling_->cut = true;
    inner_->cancel();
    return fail(errc::peer_gone, "using a link that was cut");
  }

  std::unique_ptr<Channel> inner_;
  std::shared_ptr<Meddling> meddling_;
  const End end_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool cancelled_ = false;
};

}  // namespace

ChannelPair meddle(ChannelPair pair, std::shared_ptr<Meddling> meddling) {
  return {std::make_unique<MeddlingChannel>(std::move(pair.source), meddling, End::source),
          std::make_unique<MeddlingChannel>(std::move(pair.destination), meddling, End::destination)};
}

}  // namespace ramferry::test
