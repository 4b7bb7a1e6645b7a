// SPDX-License-Identifier: MIT
// What the model's thread does: carrying out work, late and out of order.
#include "fabric_model_state.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace ramferry::rdma::testing {
namespace {

bool overlaps(const std::byte* a, std::size_t a_size, const std::byte* b, std::size_t b_size) {
  return a < b + b_size && b < a + a_size;
}

/// A device's write to memory that a processor may read meanwhile: ThreadSanitizer does not see a real one's,
/// either.
__attribute__((no_sanitize("thread"), noinline)) void write_as_device(std::byte* to,
                                                                      const std::vector<std::byte>& bytes) {
  volatile std::byte* const at = to;
  const std::byte* const from = bytes.data();
  for (std::size_t i = 0; i < bytes.size(); ++i) at[i] = from[i];
}

}  // namespace

ModelNet::ModelNet(ModelPlan plan) : state_(std::make_shared<State>(std::move(plan))) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

ModelNet::~ModelNet() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->work.notify_all();
  }
  state_->thread.join();
}

ModelCounts ModelNet::counts() const {
  const std::lock_guard lock(state_->mutex);
  ModelCounts counts = state_->counts;
  counts.regions = state_->regions.size();
  for (const auto& [key, region] : state_->regions) {
    counts.region_bytes += region.memory.size();
    if (region.rights == Rights::remote_write) counts.remotely_writable_bytes += region.memory.size();
  }
  counts.connections = state_->ports.size();
  return counts;
}

void ModelNet::cut() {
  const std::lock_guard lock(state_->mutex);
  state_->is_cut = true;
  state_->work.notify_all();
}

void ModelNet::remove_device() {
  const std::lock_guard lock(state_->mutex);
  state_->removed = true;
  for (const auto& station : state_->stations)
    state_->report(*station, {FabricErrc::device_removed, "the model's device was removed"});
  for (const auto& port : state_->ports) state_->fail(*port);
}

void ModelNet::hang(unsigned number) {
  const std::lock_guard lock(state_->mutex);
  for (const auto& port : state_->ports) port->hung = port->hung || port->connection == number;
}

void ModelNet::fail_next(unsigned number, std::error_code error) {
  const std::lock_guard lock(state_->mutex);
  for (const auto& port : state_->ports) {
    if (port->connection == number) port->next_error = error;
  }
}

void ModelNet::report(unsigned number, const LinkEvent& event) {
  const std::lock_guard lock(state_->mutex);
  for (const auto& port : state_->ports) {
    if (port->connection == number && port->dialed) state_->report(*port->station, event);
  }
}

void ModelNet::tamper_with(Tamper tamper) {
  const std::lock_guard lock(state_->mutex);
  state_->tamper = std::move(tamper);
}

void ModelNet::State::run() {
  std::unique_lock lock(mutex);
  while (!stopping) {
    if (step()) {
      // Others may post in between: that is what makes orders differ.
      lock.unlock();
      lock.lock();
      continue;
    }
    work.wait(lock);
  }
}

bool ModelNet::State::step() {
  std::vector<Port*> ready;
  Port* slow = nullptr;
  for (const auto& port : ports) {
    if (port->sends.empty() || port->hung || !port->peer) continue;
    if (port->connection == plan.slow_connection)
      slow = port.get();
    else
      ready.push_back(port.get());
  }
  if (!ready.empty()) {
    execute(*ready[below(ready.size())]);
    return true;
  }
  if (slow != nullptr) {
    execute(*slow);
    return true;
  }
  return place_some();
}

bool ModelNet::State::place_some() {
  for (const auto& port : ports) {
    if (port->unplaced.empty()) continue;
    if (plan.lazy_writes) return false;  // not before something forces it
    place_all(*port);
    return true;
  }
  return false;
}

void ModelNet::State::execute(Port& port) {
  const WorkRequest request = port.sends.front();
  if (port.failed) {
    port.sends.pop_front();
    return complete(port, request, FabricErrc::flushed);
  }
  const bool unreachable = is_cut || port.peer->failed;
  const std::error_code error = port.next_error ? *std::exchange(port.next_error, std::nullopt)
                                : unreachable   ? make_error_code(FabricErrc::retry_exceeded)
                                : find_local(port, request) == nullptr
                                    ? make_error_code(FabricErrc::local_protection)
                                    : std::error_code();
  port.sends.pop_front();
  if (error) {
    complete(port, request, error);
    return fail(port);
  }
  if (request.kind == WorkRequest::Kind::write)
    write(port, request);
  else
    send(port, request);
}

const ModelRegionData* ModelNet::State::find_local(const Port& port, const WorkRequest& request) const {
  const auto found = regions.find(request.local_key);
  if (found == regions.end() || found->second.owner != port.station.get()) return nullptr;
  const Bytes memory = found->second.memory;
  const bool inside =
      request.local >= memory.data() && request.local + request.length <= memory.data() + memory.size();
  return inside ? &found->second : nullptr;
}

void ModelNet::State::write(Port& port, const WorkRequest& request) {
  Port& peer = *port.peer;
  const auto found = regions.find(request.remote_key);
  // A write of no bytes needs no key.
  if (request.length == 0) {
    ++counts.looks;
    return complete(port, request, {});
  }
  const bool known = found != regions.end() && found->second.owner == peer.station.get() &&
                     found->second.rights == Rights::remote_write;
  const std::uint64_t at = known ? request.remote_address - found->second.base : 0;
  if (!known || at > found->second.memory.size() || request.length > found->second.memory.size() - at) {
    complete(port, request, FabricErrc::remote_access);
    fail(port);
    return fail(peer);  // the responder's queue pair fails too
  }
  std::byte* const to = found->second.memory.data() + at;
  for (const auto& other : ports) {
    for (const Unplaced& under_way : other->unplaced)
      if (overlaps(to, request.length, under_way.to, under_way.bytes.size())) ++counts.collisions;
  }
  ++counts.writes;
  counts.written_bytes += request.length;
  peer.unplaced.push_back({to, {request.local, request.local + request.length}});
  complete(port, request, {});
}

void ModelNet::State::send(Port& port, const WorkRequest& request) {
  Port& peer = *port.peer;
  place_all(peer);
  if (peer.receives.empty()) {
    complete(port, request, FabricErrc::receiver_not_ready);
    return fail(port);
  }
  const Receive into = peer.receives.front();
  peer.receives.pop_front();
  std::vector<std::byte> message(request.local, request.local + request.length);
  if (tamper) tamper(port.connection, message);
  const auto size = static_cast<std::uint32_t>(std::min<std::size_t>(into.length, message.size()));
  std::memcpy(into.into, message.data(), size);
  ++counts.sends;
  peer.station->completions.push_back({into.id, size, {}});
  peer.station->changed.notify_all();
  complete(port, request, {});
}

void ModelNet::State::place_all(Port& port) {
  std::shuffle(port.unplaced.begin(), port.unplaced.end(), random);
  for (const Unplaced& write : port.unplaced) write_as_device(write.to, write.bytes);
  port.unplaced.clear();
}

void ModelNet::State::complete(Port& port, const WorkRequest& request, std::error_code error,
                               std::uint32_t bytes) {
  if (error) ++counts.failed;
  if (!error && !request.signaled) return;
  port.station->completions.push_back({request.id, bytes, error});
  port.station->changed.notify_all();
}

void ModelNet::State::fail(Port& port) {
  port.failed = true;
  for (const WorkRequest& request : port.sends) complete(port, request, FabricErrc::flushed);
  port.sends.clear();
  // What was acknowledged before lands before the receives come back.
  place_all(port);
  for (const Receive& receive : port.receives)
    port.station->completions.push_back({receive.id, 0, FabricErrc::flushed});
  port.receives.clear();
  port.station->changed.notify_all();
}

void ModelNet::State::report(Station& station, LinkEvent event) {
  station.events.push_back(std::move(event));
  station.changed.notify_all();
}

}  // namespace ramferry::rdma::testing
