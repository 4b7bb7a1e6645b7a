// SPDX-License-Identifier: MIT
// Peers that say what the input holds and then hang up: for fuzz targets of whole conversations. What is sent
// to them goes nowhere.
#pragma once

#include <ramferry/channel.hpp>

#include <algorithm>
#include <cstring>

namespace ramferry::fuzz {

/// `Base` is ByteStream, or Channel with its other calls added.
template <class Base>
class Canned : public Base {
 public:
  explicit Canned(ConstBytes bytes) : rest_(bytes) {}
  Result<> send(ConstBytes /*bytes*/) override { return {}; }
  Result<std::size_t> receive(Bytes into, Deadline /*deadline*/) override {
    const std::size_t count = std::min(into.size(), rest_.size());
    if (count != 0) std::memcpy(into.data(), rest_.data(), count);
    rest_ = rest_.subspan(count);
    return count;
  }
  Result<> finish(Deadline /*deadline*/) override { return {}; }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }

 private:
  ConstBytes rest_;
};

class CannedChannel final : public Canned<Channel> {
 public:
  using Canned::Canned;
  Result<> expose(SlotId /*slot*/, Landing& /*landing*/) override { return {}; }
  Result<> revoke(Deadline /*deadline*/) override { return {}; }
  Result<> lend(std::span<const Placement> /*plan*/) override { return {}; }
  Result<> prepare(ConstBytes /*range*/) override { return {}; }
  Result<> place(std::span<const Placement> /*batch*/) override { return {}; }
  Result<> zero(std::span<const ZeroRun> /*runs*/) override { return {}; }
  Result<Epoch> fence() override { return Epoch{1}; }
  Result<> settle(Epoch /*epoch*/, Deadline /*deadline*/) override { return {}; }
  Epoch settled() const noexcept override { return 0; }
  SessionId session() const noexcept override { return {}; }
};

}  // namespace ramferry::fuzz
