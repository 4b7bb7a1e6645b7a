// SPDX-License-Identifier: MIT
// Puts the connections of a QEMU with multifd together: the main one and its channels, in any order.
#include "bundling.hpp"
#include "socket_stream.hpp"

#include <ramferry/stream_bundle.hpp>

namespace ramferry::tcp {

void SocketListener::read_channel(const StrangerPtr& stranger) {
  const Result<MultifdHello> hello = decode_multifd_hello(stranger->bytes);
  if (!hello) return drop(stranger, hello.error().message(), false);
  Bundling& bundling = bundling_now();
  const std::size_t number = hello->channel;
  if (number >= bundling.channels.size())
    return drop(stranger,
                "it is multifd channel " + std::to_string(number) + ", and the address says channels=" +
                    std::to_string(bundling.channels.size()) + "; give both sides the same number",
                false);
  if (bundling.channels[number])
    return drop(stranger, "multifd channel " + std::to_string(number) + " is there already", false);
  if (bundling.uuid && *bundling.uuid != hello->uuid)
    return drop(stranger, "its multifd channel belongs to another machine than those before", false);
  bundling.uuid = hello->uuid;
  UniqueFd socket = let_go(stranger);
  if (!prepare_socket(socket.get(), settings_)) return;
  bundling.channels[number] = std::make_unique<SocketStream>(std::move(socket), settings_.peer_timeout);
  bundle_if_complete();
}

void SocketListener::take_main(const StrangerPtr& stranger) {
  Bundling& bundling = bundling_now();
  if (bundling.main) return drop(stranger, "the channels of another QEMU are still awaited", false);
  std::vector<std::byte> first = std::move(stranger->bytes);
  UniqueFd socket = let_go(stranger);
  if (!prepare_socket(socket.get(), settings_)) return;
  bundling.main = std::make_unique<SocketStream>(std::move(socket), settings_.peer_timeout, std::move(first));
  bundle_if_complete();
}

SocketListener::Bundling& SocketListener::bundling_now() {
  if (bundling_) return *bundling_;
  bundling_ = std::make_unique<Bundling>(context_, settings_.channels);
  bundling_->patience.expires_after(settings_.peer_timeout);
  bundling_->patience.async_wait([this](const AsioError& error) {
    if (error) return;
    const std::size_t expected = bundling_->channels.size();
    const std::size_t came = expected + 1 - bundling_->missing - (bundling_->main ? 1 : 0);
    log_.warn("a QEMU is turned away: " + std::to_string(came) + " of its " + std::to_string(expected) +
              " multifd channels " + (bundling_->main ? "" : "and not its main connection ") +
              "came in time; the address says channels=" + std::to_string(expected) +
              ", give the source the same multifd-channels");
    bundling_.reset();
  });
  return *bundling_;
}

void SocketListener::bundle_if_complete() {
  if (--bundling_->missing != 0) return;
  bundling_->patience.cancel();
  hand_out(std::make_unique<StreamBundle>(std::move(bundling_->main), std::move(bundling_->channels)));
  bundling_.reset();
}

}  // namespace ramferry::tcp
