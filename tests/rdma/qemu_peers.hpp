// SPDX-License-Identifier: MIT
// Ends of QEMU's RDMA protocol over a fabric model: ours, and a bare link for peers that do as they please.
#pragma once

#include "fabric_model.hpp"
#include "qemu_link.hpp"
#include "transport_parts.hpp"

#include <ramferry/hooked_stream.hpp>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <utility>

namespace ramferry::rdma::qemu::testing {

inline constexpr auto kPatience = std::chrono::seconds(30);

inline NullLog& no_log() {
  static NullLog log;
  return log;
}

inline std::unique_ptr<HookedStream> hooked(Link link) {
  auto stream = std::get<std::unique_ptr<ByteStream>>(std::move(link));
  return std::unique_ptr<HookedStream>(&dynamic_cast<HookedStream&>(*stream.release()));
}

/// Our destination, waiting on the model; connections come by port().
class Waiting {
 public:
  explicit Waiting(rdma::testing::ModelNet& net, const std::string& options = "dialect=auto")
      : transport_(make_transport_over(no_log(), net.make_fabric())),
        listener_(transport_->listen(*Endpoint::parse("rdma:model:0?" + options)).value()) {
    accepting_ =
        std::async(std::launch::async, [this] { return listener_->accept(Deadline::after(kPatience)); });
  }
  std::uint16_t port() const { return listener_->local().port; }
  Result<Link> accepted() { return accepting_.get(); }
  Listener& listener() { return *listener_; }

 private:
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Listener> listener_;
  std::future<Result<Link>> accepting_;
};

struct Pair {
  std::unique_ptr<HookedStream> source, destination;
};

inline Pair make_pair(rdma::testing::ModelNet& net, const std::string& options = "pin=demand",
                      const std::string& at_destination = "pin=all") {
  Waiting waiting(net, at_destination);
  const auto transport = make_transport_over(no_log(), net.make_fabric());
  const auto to =
      Endpoint::parse("rdma:model:" + std::to_string(waiting.port()) + "?dialect=qemu&" + options);
  auto source = transport->connect(*to, SessionId::random(), Deadline::after(kPatience));
  return {hooked(std::move(source).value()), hooked(waiting.accepted().value())};
}

/// A source that is only a link.
inline std::unique_ptr<QemuLink> bare_source(rdma::testing::ModelNet& net, std::uint16_t port, bool pin_all) {
  const Deadline deadline = Deadline::after(kPatience);
  auto link =
      QemuLink::make(no_log(), net.make_fabric()->open_towards({"model", port}, {}, 64, deadline).value())
          .value();
  auto connected =
      link->domain().connect(link->shape(), link->receives(), encode({pin_all}), deadline).value();
  link->attach(std::move(connected.queue));
  return link;
}

}  // namespace ramferry::rdma::qemu::testing
