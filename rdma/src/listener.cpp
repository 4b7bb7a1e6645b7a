// SPDX-License-Identifier: MIT
// The accepting end: control connections open sessions, lanes join them, complete sessions are handed out.
// Strangers and sessions that take too long are logged and forgotten.
#include "channel.hpp"
#include "qemu_destination.hpp"
#include "transport_parts.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::size_t kMostInTheMaking = 8;
constexpr auto kConfirmTick = std::chrono::milliseconds(10);  // nothing wakes us for a QEMU in the making

std::uint64_t random_token() {
  std::random_device random;
  return std::uint64_t{random()} << 32 | random();
}

class RdmaListener final : public Listener {
 public:
  RdmaListener(Log& log, std::unique_ptr<Acceptor> acceptor, Endpoint at, const Options& options)
      : log_(log), acceptor_(std::move(acceptor)), local_(std::move(at)), options_(options) {
    local_.port = acceptor_->local().port;
  }

  Endpoint local() const override { return local_; }

  Result<Link> accept(Deadline deadline) override {
    while (true) {
      if (cancelled_) return fail(errc::cancelled, "accepting");
      forget_failed();
      if (auto stock = take_confirmed()) return Link(std::move(stock));
      if (auto channel = take_ready()) return Link(std::unique_ptr<Channel>(std::move(channel)));
      auto request = acceptor_->next(Deadline::at(std::min(deadline.when(), next_expiry())));
      if (request && *request) serve(std::move(*request));
      if (request) continue;
      if (!request.error().is(errc::timed_out)) return Failure(std::move(request).error());
      if (deadline.passed())
        return fail(errc::timed_out, "waiting for a connection to " + local_.to_string());
    }
  }

  void cancel() noexcept override {
    cancelled_ = true;
    acceptor_->wake();
  }

 private:
  struct Making {
    std::unique_ptr<RdmaChannel> channel;
    std::uint64_t token = 0;
    std::string from;
    std::chrono::steady_clock::time_point expiry;
  };

  /// A QEMU's connection that it has not confirmed.
  struct Stock {
    std::unique_ptr<qemu::QemuLink> link;
    bool pin_all = false;
    std::string from;
    std::chrono::steady_clock::time_point expiry;
  };

  std::chrono::steady_clock::time_point next_expiry() const {
    auto first = std::chrono::steady_clock::time_point::max();
    for (const Making& each : making_) first = std::min(first, each.expiry);
    if (!stocks_.empty()) first = std::min(first, std::chrono::steady_clock::now() + kConfirmTick);
    return first;
  }

  std::chrono::steady_clock::time_point expiry() const {
    return std::chrono::steady_clock::now() + options_.making_time;
  }

  std::unique_ptr<ByteStream> take_confirmed() {
    for (auto each = stocks_.begin(); each != stocks_.end();) {
      const auto confirmed = each->link->is_confirmed();
      if (confirmed && *confirmed) {
        each->link->look_after_peer(options_.peer_timeout / 2);
        auto ready = std::make_unique<qemu::QemuDestination>(std::move(each->link), each->pin_all);
        stocks_.erase(each);
        return ready;
      }
      if (confirmed && std::chrono::steady_clock::now() < each->expiry) {
        ++each;
        continue;
      }
      log_.warn("rdma: lost a QEMU's connection from " + each->from + ": " +
                (confirmed ? "it was not completed" : confirmed.error().message()));
      each = stocks_.erase(each);
    }
    return nullptr;
  }

  std::unique_ptr<RdmaChannel> take_ready() {
    const auto ready = std::find_if(making_.begin(), making_.end(),
                                    [](const Making& each) { return each.channel->is_ready(); });
    if (ready == making_.end()) return nullptr;
    std::unique_ptr<RdmaChannel> channel = std::move(ready->channel);
    making_.erase(ready);
    return channel;
  }

  void forget_failed() {
    const auto now = std::chrono::steady_clock::now();
    std::erase_if(making_, [&](const Making& each) {
      if (each.channel->is_ready() || (now < each.expiry && !each.channel->has_failed())) return false;
      log_.warn("rdma: a session from " + each.from + " was begun and not completed; it is forgotten");
      return true;
    });
  }

  void serve(std::unique_ptr<ConnectRequest> request) {
    const std::string from = request->from();
    if (options_.dialect != Dialect::native && is_stock_greeting(request->hello())) {
      if (auto taken = take_stock(*request, from); !taken)
        log_.warn("rdma: lost a QEMU's connection from " + from + ": " + taken.error().message());
      return;
    }
    auto hello = decode_hello(request->hello());
    if (hello && options_.dialect == Dialect::qemu)
      hello = fail(errc::unsupported, "accepting: only QEMU's own protocol is spoken here");
    auto served = !hello                             ? Result<>(Failure(std::move(hello).error()))
                  : hello->kind == Hello::Kind::lane ? join(*request, *hello)
                                                     : open(*request, *hello, from);
    if (served) return;
    log_.warn("rdma: refused a connection from " + from + ": " + served.error().message());
    Answer answer{.verdict = Answer::Verdict::malformed};
    if (served.error().is(errc::unsupported)) answer.verdict = Answer::Verdict::unsupported;
    if (served.error().is(errc::not_found)) answer.verdict = Answer::Verdict::unknown_session;
    if (served.error().is(errc::in_use)) answer.verdict = Answer::Verdict::overloaded;
    request->reject(encode(answer));
  }

  /// A stock QEMU, which has one connection and says nothing before we do.
  Result<> take_stock(ConnectRequest& request, const std::string& from) {
    if (stocks_.size() >= kMostInTheMaking)
      return fail(errc::in_use, "accepting it: too many are being accepted");
    RAMFERRY_TRY_ASSIGN(const auto greeting, qemu::decode_greeting(request.hello()));
    // What it asks for it gets: a QEMU 7.2 that is denied it dies of an assertion, and its guest with it.
    const bool pin_all = greeting.pin_all;
    RAMFERRY_TRY_ASSIGN(auto domain, request.open_domain(qemu::QemuLink::completions()));
    RAMFERRY_TRY_ASSIGN(auto link, qemu::QemuLink::make(log_, std::move(domain)));
    const auto receives = link->receives();
    RAMFERRY_TRY_ASSIGN(auto queue,
                        request.accept(link->domain(), link->shape(), receives, qemu::encode({pin_all})));
    link->attach(std::move(queue));
    stocks_.push_back({std::move(link), pin_all, from, expiry()});
    return {};
  }

  Answer answer_with(std::uint64_t token) const {
    return {.token = token,
            .peer_timeout_ms = static_cast<std::uint32_t>(options_.peer_timeout.count()),
            .receives = kControlReceives};
  }

  Result<> open(ConnectRequest& request, const Hello& hello, const std::string& from) {
    if (making_.size() >= kMostInTheMaking)
      return fail(errc::in_use, "opening a session: too many are being opened");
    RAMFERRY_TRY_ASSIGN(auto domain, request.open_domain(RdmaChannel::completions_for(hello.lanes)));
    RAMFERRY_TRY_ASSIGN(auto channel, RdmaChannel::make({log_, options_, std::move(domain), hello.session,
                                                         hello.lanes, false}));
    const std::uint64_t token = random_token();
    RAMFERRY_TRY_ASSIGN(auto queue, request.accept(channel->domain(), RdmaChannel::control_shape(),
                                                   channel->control_receives(), encode(answer_with(token))));
    channel->attach_control(std::move(queue), hello.receives,
                            std::chrono::milliseconds(hello.peer_timeout_ms));
    RAMFERRY_TRY(channel->start([this] { acceptor_->wake(); }));
    making_.push_back({std::move(channel), token, from, expiry()});
    return {};
  }

  Result<> join(ConnectRequest& request, const Hello& hello) {
    const auto found = std::find_if(making_.begin(), making_.end(), [&](const Making& each) {
      return each.channel->session() == hello.session && each.token == hello.token;
    });
    if (found == making_.end()) return fail(errc::not_found, "joining a session: it is not being made");
    RdmaChannel& channel = *found->channel;
    if (hello.lanes != channel.lanes() || channel.has_lane(hello.lane))
      return fail(errc::protocol_mismatch, "joining a session: not with this lane");
    RAMFERRY_TRY_ASSIGN(auto queue,
                        request.accept(channel.domain(), RdmaChannel::lane_shape(hello.lanes),
                                       channel.lane_receives(hello.lane), encode(answer_with(hello.token))));
    channel.attach_lane(hello.lane, std::move(queue));
    return {};
  }

  Log& log_;
  std::unique_ptr<Acceptor> acceptor_;
  Endpoint local_;
  const Options options_;
  std::vector<Making> making_;
  std::vector<Stock> stocks_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace

Result<std::unique_ptr<Listener>> make_listener(Log& log, std::unique_ptr<Acceptor> acceptor,
                                                const Endpoint& at, const Options& options) {
  return std::make_unique<RdmaListener>(log, std::move(acceptor), at, options);
}

}  // namespace ramferry::rdma
