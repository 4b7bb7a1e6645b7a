// SPDX-License-Identifier: MIT
// A source that says what it pleases: real connections on the model, and no channel behind them. Credits and
// heartbeats are as they should be; what is said, and when, is the test's.
//
// One thread.
#pragma once

#include "channel.hpp"
#include "fabric_model.hpp"

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::rdma::testing {

class BareSource {
 public:
  /// Connects a session of `lanes`, whose first `connected` it has. Somebody must be accepting. Throws.
  BareSource(ModelNet& net, std::uint16_t port, std::uint8_t lanes = 1, std::uint8_t connected = 1)
      : core_(log_, {}, net.make_fabric()->open_towards({"model", port}, {}, 1024, patience()).value()),
        control_(ControlLink::make(core_, kSends, kReceives).value()) {
    Hello hello{.lanes = lanes,
                .session = SessionId::random(),
                .peer_timeout_ms = 60'000,
                .receives = kControlReceives};
    auto made =
        core_.domain->connect(ControlLink::shape(), control_->receives(), encode(hello), patience()).value();
    const Answer answer = decode_answer(made.answer).value();
    control_->attach(std::move(made.queue), answer.receives);
    hello.kind = Hello::Kind::lane;
    hello.token = answer.token;
    for (hello.lane = 0; hello.lane < connected; ++hello.lane) {
      auto lane = core_.domain->connect({8, 8}, {}, encode(hello), patience()).value();
      if (lane.queue) lanes_.push_back(std::move(lane.queue));
    }
  }
  ~BareSource() {
    lanes_.clear();
    control_->disconnect();
    control_->attach(nullptr, 0);
  }

  void say(const Message& message) { control_->post(message); }

  /// Until the peer has said what `wanted` is true for; false if it hung up, or patience is at an end.
  bool hears(const std::function<bool(const Message&)>& wanted) {
    const Deadline deadline = patience();
    bool heard = false;
    std::array<Completion, 16> done;
    while (!heard && !deadline.passed()) {
      const bool gone = core_.domain->next_event().has_value();
      const std::size_t count = core_.domain->poll(done).value();
      for (std::size_t i = 0; i < count; ++i) heard = take(done[i], wanted) || heard;
      if (count == 0 && gone) return heard;
      if (count == 0 && !heard) core_.domain->wait(deadline);
    }
    return heard;
  }
  template <class Kind>
  bool hears() {
    return hears([](const Message& message) { return std::holds_alternative<Kind>(message); });
  }
  /// The peer's last words, when it has given us up.
  std::optional<std::string> farewell() {
    std::optional<std::string> text;
    hears([&](const Message& message) {
      if (const auto* last = std::get_if<Farewell>(&message)) text = last->text;
      return text.has_value();
    });
    return text;
  }

 private:
  static constexpr std::uint64_t kSends = 0, kReceives = 1U << 16;
  static Deadline patience() { return Deadline::after(std::chrono::seconds(30)); }

  bool take(const Completion& completion, const std::function<bool(const Message&)>& wanted) {
    if (completion.error) return false;
    if (completion.id < kReceives) {
      control_->on_sent(completion.id);
      return false;
    }
    const std::size_t buffer = completion.id - kReceives;
    const Frame frame = control_->on_received(buffer, completion.bytes).value();
    const bool heard = wanted(frame.message);
    control_->recycle(buffer);
    return heard;
  }

  NullLog log_;
  Core core_;
  std::unique_ptr<ControlLink> control_;
  std::vector<std::unique_ptr<QueuePair>> lanes_;
};

}  // namespace ramferry::rdma::testing
