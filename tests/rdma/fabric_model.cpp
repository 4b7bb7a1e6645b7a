// SPDX-License-Identifier: MIT
// The model as a Fabric.
#include "fabric_model.hpp"

#include "fabric_model_state.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

namespace ramferry::rdma::testing {
namespace {

using State = ModelNet::State;
using Shared = std::shared_ptr<State>;
using NetLock = std::unique_lock<std::mutex>;

bool wait(std::condition_variable& on, NetLock& lock, Deadline deadline) {
  if (deadline.is_never()) {
    on.wait(lock);
    return true;
  }
  return on.wait_until(lock, deadline.when()) == std::cv_status::no_timeout;
}

class ModelQueue final : public QueuePair {
 public:
  ModelQueue(Shared net, std::shared_ptr<Port> port) : net_(std::move(net)), port_(std::move(port)) {}

  ~ModelQueue() override {
    disconnect();
    const NetLock lock(net_->mutex);
    std::erase(net_->ports, port_);
    port_->peer = nullptr;  // ours of it: it keeps us, failed, to run into
  }

  Posted post(std::span<const WorkRequest> list) noexcept override {
    const NetLock lock(net_->mutex);
    ++net_->counts.posts;
    std::size_t room = port_->shape.sends - std::min<std::size_t>(port_->shape.sends, port_->sends.size());
    if (net_->plan.partial_posts > 0 &&
        static_cast<double>(net_->below(1000)) < net_->plan.partial_posts * 1000)
      room = std::min<std::size_t>(room, net_->below(list.size() + 1));
    const std::size_t taken = std::min(list.size(), room);
    for (const WorkRequest& request : list.first(taken)) {
      if (port_->failed)
        net_->complete(*port_, request, FabricErrc::flushed);
      else
        port_->sends.push_back(request);
    }
    net_->work.notify_all();
    if (taken == list.size()) return {taken, {}};
    return {taken, std::make_error_code(std::errc::not_enough_memory)};
  }

  Posted post_receives(std::span<const Receive> list) noexcept override {
    const NetLock lock(net_->mutex);
    for (const Receive& receive : list) {
      if (port_->failed)
        port_->station->completions.push_back({receive.id, 0, FabricErrc::flushed});
      else
        port_->receives.push_back(receive);
    }
    return {list.size(), {}};
  }

  void to_error() noexcept override {
    const NetLock lock(net_->mutex);
    net_->fail(*port_);
  }

  void disconnect() noexcept override {
    const NetLock lock(net_->mutex);
    net_->fail(*port_);
    if (!port_->peer || std::exchange(told_, true) || net_->is_cut) return;
    net_->report(*port_->peer->station, {FabricErrc::disconnected, "the model's peer disconnected"});
    net_->work.notify_all();
  }

 private:
  Shared net_;
  std::shared_ptr<Port> port_;
  bool told_ = false;
};

class ModelRegion final : public Region {
 public:
  ModelRegion(Shared net, std::uint32_t key) : net_(std::move(net)), key_(key) {}
  ~ModelRegion() override {
    const NetLock lock(net_->mutex);
    for (const auto& port : net_->ports)
      net_->place_all(*port);  // a device finishes what it has acknowledged
    net_->regions.erase(key_);
  }
  std::uint32_t local_key() const noexcept override { return key_; }
  std::uint32_t remote_key() const noexcept override { return key_; }

 private:
  Shared net_;
  std::uint32_t key_;
};

class ModelDomain final : public Domain {
 public:
  ModelDomain(Shared net, std::uint16_t target) : net_(std::move(net)), target_(target) {
    const NetLock lock(net_->mutex);
    net_->stations.push_back(station_);
  }
  ~ModelDomain() override {
    const NetLock lock(net_->mutex);
    std::erase(net_->stations, station_);
  }

  const DeviceFacts& device() const noexcept override { return net_->plan.device; }

  Result<std::unique_ptr<Region>> register_memory(Bytes memory, Rights rights, std::uint64_t base) override {
    if (net_->plan.before_registration) net_->plan.before_registration(memory.size());
    const NetLock lock(net_->mutex);
    const std::string doing = "registering " + std::to_string(memory.size()) + " bytes with the model";
    const DeviceFacts& device = net_->plan.device;
    if (memory.size() > device.max_region_bytes) return fail(errc::invalid_argument, doing);
    if (rights == Rights::remote_write &&
        base % 4096 != reinterpret_cast<std::uintptr_t>(memory.data()) % 4096)
      return fail(errc::invalid_argument, doing + ": the base is not where the memory is in its page");
    ++net_->counts.registrations;
    std::uint64_t pinned = memory.size();
    for (const auto& [key, region] : net_->regions)
      pinned += region.owner == station_.get() ? region.memory.size() : 0;
    if (net_->counts.registrations == net_->plan.failing_registration || pinned > device.lockable_bytes ||
        pinned > net_->plan.hidden_limit || net_->regions.size() >= net_->plan.most_regions)
      return fail(errc::memory_lock_limit, doing, "raise the model's limits");
    const std::uint32_t key = net_->next_key += 7;
    net_->regions[key] = {memory, rights, base, station_.get()};
    return std::make_unique<ModelRegion>(net_, key);
  }

  std::shared_ptr<Port> make_port(QueueShape shape, std::span<const Receive> receives, unsigned connection) {
    auto port = std::make_shared<Port>();
    port->connection = connection;
    port->station = station_;
    port->shape = shape;
    port->receives.assign(receives.begin(), receives.end());
    return port;
  }

  Result<std::vector<Connected>> connect_all(std::span<const Dial> dials, Deadline deadline) override {
    NetLock lock(net_->mutex);
    const auto door = net_->doorways.find(target_);
    if (door == net_->doorways.end()) return fail(FabricErrc::rejected, "connecting");
    std::vector<std::shared_ptr<Dialing>> all;
    for (const Dial& dial : dials) {
      auto dialing = std::make_shared<Dialing>();
      dialing->hello.assign(dial.hello.begin(), dial.hello.end());
      dialing->port = make_port(dial.shape, dial.receives, net_->next_connection++);
      dialing->port->dialed = true;
      door->second->waiting.push_back(dialing);
      all.push_back(std::move(dialing));
    }
    net_->dialed.notify_all();
    const auto is_waiting = [](const auto& each) { return each->state == Dialing::State::waiting; };
    while (std::any_of(all.begin(), all.end(), is_waiting)) {
      if (deadline.passed()) {
        for (const auto& each : all) std::erase(door->second->waiting, each);
        return fail(errc::timed_out, "connecting");
      }
      testing::wait(net_->dialed, lock, deadline);
    }
    std::vector<Connected> connected;
    for (const auto& each : all) {
      connected.push_back({nullptr, each->answer});
      if (each->state == Dialing::State::accepted)
        connected.back().queue = std::make_unique<ModelQueue>(net_, each->port);
    }
    return connected;
  }

  Result<std::size_t> poll(std::span<Completion> into) override {
    const NetLock lock(net_->mutex);
    const std::size_t count = std::min(into.size(), station_->completions.size());
    for (std::size_t i = 0; i < count; ++i) {
      into[i] = station_->completions.front();
      station_->completions.pop_front();
    }
    return count;
  }

  std::optional<LinkEvent> next_event() override {
    const NetLock lock(net_->mutex);
    if (station_->events.empty()) return std::nullopt;
    LinkEvent event = station_->events.front();
    station_->events.pop_front();
    return event;
  }

  std::size_t confirmed() const noexcept override { return confirmed_; }
  void confirm() noexcept { ++confirmed_; }

  void wait(Deadline deadline) override {
    NetLock lock(net_->mutex);
    while (station_->completions.empty() && station_->events.empty() && !station_->woken &&
           !deadline.passed())
      testing::wait(station_->changed, lock, deadline);
    station_->woken = false;
  }

  void wake() noexcept override {
    const NetLock lock(net_->mutex);
    station_->woken = true;
    station_->changed.notify_all();
  }

 private:
  Shared net_;
  std::uint16_t target_;
  std::shared_ptr<Station> station_ = std::make_shared<Station>();
  std::atomic<std::size_t> confirmed_ = 0;
};

class ModelRequest final : public ConnectRequest {
 public:
  ModelRequest(Shared net, std::shared_ptr<Dialing> dialing)
      : net_(std::move(net)), dialing_(std::move(dialing)) {}
  ~ModelRequest() override { answer(Dialing::State::refused, {}); }

  ConstBytes hello() const noexcept override { return dialing_->hello; }
  std::string from() const override { return "model"; }
  Result<std::unique_ptr<Domain>> open_domain(std::uint32_t /*completions*/) override {
    return std::make_unique<ModelDomain>(net_, std::uint16_t{0});
  }

  Result<std::unique_ptr<QueuePair>> accept(Domain& domain, QueueShape shape,
                                            std::span<const Receive> receives, ConstBytes bytes) override {
    std::shared_ptr<Port> port;
    if (dialing_->port->connection == net_->plan.failing_accept) {
      answer(Dialing::State::refused, {});  // the connection manager's word: no answer of ours goes with it
      return fail(std::make_error_code(std::errc::not_enough_memory), "making a queue pair with the model");
    }
    {
      const NetLock lock(net_->mutex);
      port = static_cast<ModelDomain&>(domain).make_port(shape, receives, dialing_->port->connection);
      port->peer = dialing_->port;
      dialing_->port->peer = port;
      net_->ports.push_back(port);
      net_->ports.push_back(dialing_->port);
    }
    answer(Dialing::State::accepted, bytes);
    // The model's peers can receive from the start.
    if (dialing_->port->connection != net_->plan.unconfirmed) static_cast<ModelDomain&>(domain).confirm();
    return std::make_unique<ModelQueue>(net_, port);
  }

  void reject(ConstBytes bytes) noexcept override { answer(Dialing::State::refused, bytes); }

 private:
  void answer(Dialing::State state, ConstBytes bytes) {
    const NetLock lock(net_->mutex);
    if (dialing_->state != Dialing::State::waiting) return;
    dialing_->state = state;
    dialing_->answer.assign(bytes.begin(), bytes.end());
    net_->dialed.notify_all();
  }

  Shared net_;
  std::shared_ptr<Dialing> dialing_;
};

class ModelAcceptor final : public Acceptor {
 public:
  ModelAcceptor(Shared net, std::uint16_t port) : net_(std::move(net)), port_(port) {}
  ~ModelAcceptor() override {
    const NetLock lock(net_->mutex);
    for (const auto& dialing : door_->waiting) dialing->state = Dialing::State::refused;
    net_->doorways.erase(port_);
    net_->dialed.notify_all();
  }

  Address local() const override { return {"model", port_}; }
  void open() { net_->doorways[port_] = door_; }

  Result<std::unique_ptr<ConnectRequest>> next(Deadline deadline) override {
    NetLock lock(net_->mutex);
    while (door_->waiting.empty() && !door_->woken) {
      if (deadline.passed()) return fail(errc::timed_out, "waiting for a connection");
      wait(net_->dialed, lock, deadline);
    }
    if (std::exchange(door_->woken, false)) return std::unique_ptr<ConnectRequest>();
    auto dialing = door_->waiting.front();
    door_->waiting.pop_front();
    return std::make_unique<ModelRequest>(net_, std::move(dialing));
  }

  void wake() noexcept override {
    const NetLock lock(net_->mutex);
    door_->woken = true;
    net_->dialed.notify_all();
  }

 private:
  Shared net_;
  std::uint16_t port_;
  std::shared_ptr<Doorway> door_ = std::make_shared<Doorway>();
};

class ModelFabric final : public Fabric {
 public:
  explicit ModelFabric(Shared net) : net_(std::move(net)) {}

  Result<> probe() const override { return {}; }
  Result<std::unique_ptr<Domain>> open_towards(const Address& to, const LinkTuning& /*tuning*/,
                                               std::uint32_t /*completions*/,
                                               Deadline /*deadline*/) override {
    return std::make_unique<ModelDomain>(net_, to.port);
  }
  Result<std::unique_ptr<Acceptor>> listen(const Address& at, const LinkTuning& /*tuning*/) override {
    const NetLock lock(net_->mutex);
    const std::uint16_t port = at.port != 0 ? at.port : net_->next_port++;
    auto acceptor = std::make_unique<ModelAcceptor>(net_, port);
    acceptor->open();
    return acceptor;
  }

 private:
  Shared net_;
};

}  // namespace

std::unique_ptr<Fabric> ModelNet::make_fabric() {
  return std::make_unique<ModelFabric>(state_);
}

}  // namespace ramferry::rdma::testing
