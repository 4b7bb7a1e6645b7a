// SPDX-License-Identifier: MIT
#include <ramferry/stream_bundle.hpp>

#include <string>
#include <utility>

namespace ramferry {

StreamBundle::StreamBundle(std::unique_ptr<ByteStream> main,
                           std::vector<std::unique_ptr<ByteStream>> channels)
    : main_(std::move(main)), channels_(std::move(channels)) {}

void StreamBundle::cancel() noexcept {
  main_->cancel();
  for (const auto& channel : channels_) channel->cancel();
}

StreamStats StreamBundle::stats() const noexcept {
  StreamStats all = main_->stats();
  for (const auto& channel : channels_) {
    const StreamStats one = channel->stats();
    all.message_bytes_sent += one.message_bytes_sent;
    all.message_bytes_received += one.message_bytes_received;
    all.wire_bytes_sent += one.wire_bytes_sent;
    all.wire_bytes_received += one.wire_bytes_received;
    all.system_calls += one.system_calls;
  }
  return all;
}

Facts StreamBundle::facts() const {
  Facts facts = main_->facts();
  facts.emplace_back("channels", std::to_string(channels_.size()));
  return facts;
}

}  // namespace ramferry
