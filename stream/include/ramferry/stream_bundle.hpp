// SPDX-License-Identifier: MIT
// A byte stream with further ones beside it, of the same peer: QEMU's migration with multifd.
//
// Transports that put such a thing together give it where a plain ByteStream is expected; who knows what the
// channels are for finds them with a dynamic_cast. As a ByteStream it is the main stream alone, except that
// cancel() ends and stats() counts all. Each channel may have threads of its own.
#pragma once

#include <ramferry/byte_stream.hpp>

#include <cstddef>
#include <memory>
#include <vector>

namespace ramferry {

class StreamBundle final : public ByteStream {
 public:
  /// The channels in the order of their numbers; what introduces a channel has been said or read.
  StreamBundle(std::unique_ptr<ByteStream> main, std::vector<std::unique_ptr<ByteStream>> channels);

  std::size_t channels() const noexcept { return channels_.size(); }
  ByteStream& channel(std::size_t number) noexcept { return *channels_[number]; }

  Result<> send(ConstBytes bytes) override { return main_->send(bytes); }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    return main_->receive(into, deadline);
  }
  Result<> finish(Deadline deadline) override { return main_->finish(deadline); }
  bool all_or_nothing() const noexcept override { return main_->all_or_nothing(); }
  void cancel() noexcept override;
  StreamStats stats() const noexcept override;
  Facts facts() const override;
  std::vector<UniqueFd> take_descriptors() override { return main_->take_descriptors(); }

 private:
  std::unique_ptr<ByteStream> main_;
  std::vector<std::unique_ptr<ByteStream>> channels_;
};

}  // namespace ramferry
