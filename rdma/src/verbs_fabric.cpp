// SPDX-License-Identifier: MIT
#include "verbs_fabric.hpp"

#include "verbs_check.hpp"
#include "verbs_domain.hpp"
#include "verbs_drivers.hpp"
#include "verbs_queue.hpp"

#include <algorithm>
#include <deque>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr int kBacklog = 128;  // a session of 64 lanes connects 65 times

class VerbsRequest final : public ConnectRequest {
 public:
  VerbsRequest(std::shared_ptr<AsyncEvents> events, LinkTuning tuning, const rdma_cm_event& event)
      : events_(std::move(events)), tuning_(std::move(tuning)), id_(event.id) {
    const auto* bytes = static_cast<const std::byte*>(event.param.conn.private_data);
    if (bytes != nullptr) hello_.assign(bytes, bytes + event.param.conn.private_data_len);
  }
  ~VerbsRequest() override { reject({}); }

  ConstBytes hello() const noexcept override { return hello_; }
  std::string from() const override { return to_text(rdma_get_peer_addr(id_.get())); }

  Result<std::unique_ptr<Domain>> open_domain(std::uint32_t completions) override {
    RAMFERRY_TRY_ASSIGN(EventChannelPtr channel, make_event_channel());
    RAMFERRY_TRY_ASSIGN(std::unique_ptr<Domain> domain,
                        VerbsDomain::make(events_, std::move(channel), id_.get(), tuning_, completions));
    return domain;
  }

  Result<std::unique_ptr<QueuePair>> accept(Domain& into, QueueShape shape, std::span<const Receive> receives,
                                            ConstBytes answer) override {
    auto& domain = static_cast<VerbsDomain&>(into);  // open_domain() made it: there is no other kind here
    if (id_->verbs != domain.context())
      return fail(errc::unsupported, "accepting a connection that came in by another device");
    RAMFERRY_TRY(check_cm(rdma_migrate_id(id_.get(), domain.channel()), "taking over a connection"));
    RAMFERRY_TRY(set_ack_timeout(id_.get(), tuning_));
    rdma_cm_id* const raw = id_.get();
    RAMFERRY_TRY_ASSIGN(std::unique_ptr<QueuePair> queue,
                        VerbsQueue::make(domain, std::move(id_), shape, receives));
    rdma_conn_param given{};
    given.private_data = answer.data();
    given.private_data_len = static_cast<std::uint8_t>(answer.size());
    given.responder_resources = given.initiator_depth = 1;
    given.rnr_retry_count = tuning_.retries;
    auto accepted = check_cm(rdma_accept(raw, &given), "accepting a connection");
    if (accepted) return queue;
    static_cast<void>(rdma_reject(raw, nullptr, 0));  // the queue keeps it until the domain goes
    return Failure(std::move(accepted).error());
  }

  void reject(ConstBytes answer) noexcept override {
    if (!id_) return;  // a queue pair has it, or had it
    static_cast<void>(rdma_reject(id_.get(), answer.data(), static_cast<std::uint8_t>(answer.size())));
    id_.reset();
  }

 private:
  std::shared_ptr<AsyncEvents> events_;
  LinkTuning tuning_;
  CmIdPtr id_;
  std::vector<std::byte> hello_;
};

class VerbsAcceptor final : public Acceptor {
 public:
  VerbsAcceptor(std::shared_ptr<AsyncEvents> events, LinkTuning tuning, Address local) noexcept
      : events_(std::move(events)), tuning_(std::move(tuning)), local_(std::move(local)) {}

  Result<> listen(const Address& at) {
    const std::string doing = "listening on rdma:" + at.host + ":" + std::to_string(at.port);
    RAMFERRY_TRY_ASSIGN(wake_, make_wake_fd());
    RAMFERRY_TRY_ASSIGN(channel_, make_event_channel());
    RAMFERRY_TRY_ASSIGN(const auto addresses, resolve_name(at, doing));
    Result<> last = fail(errc::not_found, doing);
    for (const SocketAddress& address : addresses) {
      last = listen_on(address, doing);
      if (last) break;
    }
    return last;
  }

  Address local() const override { return local_; }

  Result<std::unique_ptr<ConnectRequest>> next(Deadline deadline) override {
    while (true) {
      if (clear_wake_fd(wake_)) return std::unique_ptr<ConnectRequest>();
      RAMFERRY_TRY_ASSIGN(const CmEventPtr event, take_cm_event(channel_.get()));
      if (event && event->event == RDMA_CM_EVENT_CONNECT_REQUEST) {
        std::unique_ptr<ConnectRequest> request = std::make_unique<VerbsRequest>(events_, tuning_, *event);
        return request;
      }
      if (event && event->event == RDMA_CM_EVENT_DEVICE_REMOVAL)
        return fail(FabricErrc::device_removed, "waiting for a connection");
      if (event) continue;
      RAMFERRY_TRY_ASSIGN(const bool ready,
                          wait_readable(channel_->fd, wake_.get(), deadline, "waiting for a connection"));
      if (!ready) return fail(errc::timed_out, "waiting for a connection");
    }
  }

  void wake() noexcept override { signal_wake_fd(wake_); }

 private:
  Result<> listen_on(const SocketAddress& address, const std::string& doing) {
    RAMFERRY_TRY_ASSIGN(CmIdPtr id, make_id(channel_.get(), doing));
    if (rdma_bind_addr(id.get(), address.get()) != 0) {
      const int error = errno;
      if (error == ENODEV || error == EADDRNOTAVAIL)
        return fail(FabricErrc::no_device, doing,
                    "use an address of an RDMA device, see `rdma link` and docs/soft-roce.md");
      return fail_errno(error, doing);
    }
    RAMFERRY_TRY(check_cm(rdma_listen(id.get(), kBacklog), doing));
    local_.port = be16toh(rdma_get_src_port(id.get()));
    id_ = std::move(id);
    return {};
  }

  std::shared_ptr<AsyncEvents> events_;
  LinkTuning tuning_;
  Address local_;
  UniqueFd wake_;
  EventChannelPtr channel_;
  CmIdPtr id_;
};

class VerbsFabric final : public Fabric {
 public:
  Result<> probe() const override {
    load_needed_drivers();
    int count = 0;
    const std::unique_ptr<ibv_device*, Destroy<ibv_free_device_list>> devices(ibv_get_device_list(&count));
    if (!devices || count == 0)
      return fail(
          FabricErrc::no_device, "looking for RDMA devices: there is none",
          "`modprobe rdma_rxe && rdma link add rxe0 type rxe netdev <interface>` makes one in software, "
          "see docs/soft-roce.md");
    RAMFERRY_TRY(make_event_channel());
    return {};
  }

  Result<std::unique_ptr<Domain>> open_towards(const Address& to, const LinkTuning& tuning,
                                               std::uint32_t completions, Deadline deadline) override {
    load_needed_drivers();
    const std::string doing = "connecting to rdma:" + to.host + ":" + std::to_string(to.port);
    RAMFERRY_TRY_ASSIGN(const auto addresses, resolve_name(to, doing));
    Result<std::unique_ptr<Domain>> last = fail(errc::not_found, doing);
    for (const SocketAddress& address : addresses) {
      last = open_on(address, tuning, completions, deadline);
      if (last || deadline.passed()) break;
    }
    return last;
  }

  Result<std::unique_ptr<Acceptor>> listen(const Address& at, const LinkTuning& tuning) override {
    load_needed_drivers();
    auto acceptor = std::make_unique<VerbsAcceptor>(events_, tuning, at);
    RAMFERRY_TRY(acceptor->listen(at));
    return acceptor;
  }

 private:
  Result<std::unique_ptr<Domain>> open_on(const SocketAddress& address, const LinkTuning& tuning,
                                          std::uint32_t completions, Deadline deadline) {
    RAMFERRY_TRY_ASSIGN(EventChannelPtr channel, make_event_channel());
    RAMFERRY_TRY_ASSIGN(CmIdPtr id, make_id(channel.get(), "connecting"));
    RAMFERRY_TRY(resolve_route(id.get(), address, tuning, deadline));
    RAMFERRY_TRY_ASSIGN(auto domain,
                        VerbsDomain::make(events_, std::move(channel), id.get(), tuning, completions));
    domain->set_target(std::move(id), address);
    return domain;
  }

  std::shared_ptr<AsyncEvents> events_ = std::make_shared<AsyncEvents>();
};

}  // namespace

std::unique_ptr<Fabric> make_verbs_fabric() {
  // Kernels that do not copy pinned pages on fork need it before the first registration; nothing here forks.
  if (ibv_is_fork_initialized() != IBV_FORK_UNNEEDED) static_cast<void>(ibv_fork_init());
  return std::make_unique<VerbsFabric>();
}

}  // namespace ramferry::rdma
