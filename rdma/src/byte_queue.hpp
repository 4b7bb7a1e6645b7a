// SPDX-License-Identifier: MIT
// Bytes that have arrived and are not received yet; those after a fence wait until its epoch is complete.
#pragma once

#include <ramferry/channel.hpp>

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

namespace ramferry::rdma {

class ByteQueue {
 public:
  void push(ConstBytes bytes) {
    if (bytes.empty()) return;
    // Small ones share a block: each would take many times its size.
    const bool shares = !blocks_.empty() && blocks_.back().size() + bytes.size() <= kBlockBytes;
    if (shares)
      blocks_.back().insert(blocks_.back().end(), bytes.begin(), bytes.end());
    else
      blocks_.emplace_back(bytes.begin(), bytes.end());
    pushed_ += bytes.size();
  }
  /// What is pushed from now on waits for `epoch`.
  void hold_for(Epoch epoch) { barriers_.push_back({epoch, pushed_}); }
  void completed(Epoch epoch) {
    while (!barriers_.empty() && barriers_.front().epoch <= epoch) barriers_.pop_front();
  }
  /// Nothing more will be pushed.
  void end() noexcept { ended_ = true; }
  bool has_ended() const noexcept { return ended_; }

  std::uint64_t available() const noexcept {
    return (barriers_.empty() ? pushed_ : barriers_.front().at) - popped_;
  }
  bool is_at_end() const noexcept { return ended_ && popped_ == pushed_ && barriers_.empty(); }

  /// As many as are available and fit.
  std::size_t pop(Bytes into) {
    const std::size_t most = std::min<std::uint64_t>(available(), into.size());
    std::size_t done = 0;
    while (done < most) {
      const ConstBytes block = ConstBytes(blocks_.front()).subspan(used_);
      const std::size_t count = std::min(block.size(), most - done);
      std::memcpy(into.data() + done, block.data(), count);
      done += count;
      used_ += count;
      if (used_ < blocks_.front().size()) continue;
      blocks_.pop_front();
      used_ = 0;
    }
    popped_ += done;
    return done;
  }

 private:
  static constexpr std::size_t kBlockBytes = 4096;
  struct Barrier {
    Epoch epoch;
    std::uint64_t at;
  };
  std::deque<std::vector<std::byte>> blocks_;
  std::size_t used_ = 0;  // of the first block
  std::uint64_t pushed_ = 0, popped_ = 0;
  std::deque<Barrier> barriers_;
  bool ended_ = false;
};

}  // namespace ramferry::rdma
