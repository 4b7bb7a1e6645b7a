// SPDX-License-Identifier: MIT
// A fabric over another one that tells its peers wrong keys, and knows what is registered with it.
#pragma once

#include "fabric.hpp"

#include <atomic>
#include <memory>
#include <utility>

namespace ramferry::rdma::testing {

/// Regions that exist now. Outlives the fabric and what was made from it.
using RegionCount = std::atomic<int>;

class CountedRegion final : public Region {
 public:
  CountedRegion(std::unique_ptr<Region> inner, std::uint32_t spoil, RegionCount& count)
      : inner_(std::move(inner)), spoil_(spoil), count_(count) {
    ++count_;
  }
  ~CountedRegion() override {
    inner_.reset();
    --count_;
  }
  std::uint32_t local_key() const noexcept override { return inner_->local_key(); }
  std::uint32_t remote_key() const noexcept override { return inner_->remote_key() ^ spoil_; }

 private:
  std::unique_ptr<Region> inner_;
  const std::uint32_t spoil_;
  RegionCount& count_;
};

class SpoiledDomain final : public Domain {
 public:
  SpoiledDomain(std::unique_ptr<Domain> inner, std::uint32_t spoil, RegionCount& count)
      : inner_(std::move(inner)), spoil_(spoil), count_(count) {}
  Domain& inner() noexcept { return *inner_; }

  const DeviceFacts& device() const noexcept override { return inner_->device(); }
  Result<std::unique_ptr<Region>> register_memory(Bytes memory, Rights rights, std::uint64_t base) override {
    RAMFERRY_TRY_ASSIGN(auto region, inner_->register_memory(memory, rights, base));
    return std::make_unique<CountedRegion>(std::move(region), spoil_, count_);
  }
  Result<std::vector<Connected>> connect_all(std::span<const Dial> dials, Deadline deadline) override {
    return inner_->connect_all(dials, deadline);
  }
  Result<std::size_t> poll(std::span<Completion> into) override { return inner_->poll(into); }
  std::optional<LinkEvent> next_event() override { return inner_->next_event(); }
  std::size_t confirmed() const noexcept override { return inner_->confirmed(); }
  void wait(Deadline deadline) override { inner_->wait(deadline); }
  void wake() noexcept override { inner_->wake(); }

 private:
  std::unique_ptr<Domain> inner_;
  const std::uint32_t spoil_;
  RegionCount& count_;
};

class SpoiledRequest final : public ConnectRequest {
 public:
  SpoiledRequest(std::unique_ptr<ConnectRequest> inner, std::uint32_t spoil, RegionCount& count)
      : inner_(std::move(inner)), spoil_(spoil), count_(count) {}
  ConstBytes hello() const noexcept override { return inner_->hello(); }
  std::string from() const override { return inner_->from(); }
  Result<std::unique_ptr<Domain>> open_domain(std::uint32_t completions) override {
    RAMFERRY_TRY_ASSIGN(auto domain, inner_->open_domain(completions));
    return std::make_unique<SpoiledDomain>(std::move(domain), spoil_, count_);
  }
  Result<std::unique_ptr<QueuePair>> accept(Domain& domain, QueueShape shape,
                                            std::span<const Receive> receives, ConstBytes answer) override {
    return inner_->accept(static_cast<SpoiledDomain&>(domain).inner(), shape, receives, answer);
  }
  void reject(ConstBytes answer) noexcept override { inner_->reject(answer); }

 private:
  std::unique_ptr<ConnectRequest> inner_;
  const std::uint32_t spoil_;
  RegionCount& count_;
};

class SpoiledAcceptor final : public Acceptor {
 public:
  SpoiledAcceptor(std::unique_ptr<Acceptor> inner, std::uint32_t spoil, RegionCount& count)
      : inner_(std::move(inner)), spoil_(spoil), count_(count) {}
  Address local() const override { return inner_->local(); }
  Result<std::unique_ptr<ConnectRequest>> next(Deadline deadline) override {
    RAMFERRY_TRY_ASSIGN(auto request, inner_->next(deadline));
    if (!request) return std::unique_ptr<ConnectRequest>();
    return std::make_unique<SpoiledRequest>(std::move(request), spoil_, count_);
  }
  void wake() noexcept override { inner_->wake(); }

 private:
  std::unique_ptr<Acceptor> inner_;
  const std::uint32_t spoil_;
  RegionCount& count_;
};

class SpoiledFabric final : public Fabric {
 public:
  /// `spoil`: bits of each key that are wrong.
  SpoiledFabric(std::unique_ptr<Fabric> inner, std::uint32_t spoil, RegionCount& count)
      : inner_(std::move(inner)), spoil_(spoil), count_(count) {}
  Result<> probe() const override { return inner_->probe(); }
  Result<std::unique_ptr<Domain>> open_towards(const Address& to, const LinkTuning& tuning,
                                               std::uint32_t completions, Deadline deadline) override {
    RAMFERRY_TRY_ASSIGN(auto domain, inner_->open_towards(to, tuning, completions, deadline));
    return std::make_unique<SpoiledDomain>(std::move(domain), spoil_, count_);
  }
  Result<std::unique_ptr<Acceptor>> listen(const Address& at, const LinkTuning& tuning) override {
    RAMFERRY_TRY_ASSIGN(auto acceptor, inner_->listen(at, tuning));
    return std::make_unique<SpoiledAcceptor>(std::move(acceptor), spoil_, count_);
  }

 private:
  std::unique_ptr<Fabric> inner_;
  const std::uint32_t spoil_;
  RegionCount& count_;
};

}  // namespace ramferry::rdma::testing
