// SPDX-License-Identifier: MIT
#include "inbound.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace ramferry::rdma {
namespace {

constexpr std::uint64_t kPage = 4096;

/// Raw bytes for memory come by message where a registration for them would cost more.
Result<> store(Landing& landing, const StoreMessage& head, ConstBytes bytes) {
  const bool raw = head.encoding == kRawEncoding && bytes.size() == head.length;
  const Bytes memory = raw ? landing.window(head.offset, head.length) : Bytes();
  if (memory.size() != bytes.size() || memory.empty())
    return landing.store(head.offset, head.length, head.encoding, bytes);
  landing.note_written(head.offset, head.length);
  std::memcpy(memory.data(), bytes.data(), bytes.size());
  return {};
}

Failure bad_placement(const char* why) {
  return fail(errc::protocol_mismatch, std::string("taking in a placement: ") + why);
}

/// Whether `next` may be a further piece of the placement that `first` began.
bool goes_on(const StoreMessage& first, const StoreMessage& next) noexcept {
  return first.slot == next.slot && first.offset == next.offset && first.length == next.length &&
         first.encoding == next.encoding;
}

}  // namespace

Inbound::Inbound(Core& core, ControlLink& control, std::uint32_t lanes,
                 std::function<void()> start_workers) noexcept
    : core_(core),
      control_(control),
      lanes_(lanes),
      start_workers_(std::move(start_workers)),
      exposure_(core.plan),
      ledger_(lanes, kMostUnsettled) {}

Result<> Inbound::prepare_lanes(const std::function<std::uint64_t(std::uint32_t)>& first_id) {
  fence_memory_.resize(std::size_t{lanes_} * kReceives * kLaneFenceBytes);
  RAMFERRY_TRY_ASSIGN(fence_region_, core_.pin(fence_memory_, Rights::receive_into));
  for (std::uint32_t lane = 0; lane < lanes_; ++lane) first_ids_.push_back(first_id(lane));
  return {};
}

Receive Inbound::receive(std::uint32_t lane, std::size_t buffer) const {
  const Bytes into = fence_region_->memory().subspan(
      (std::size_t{lane} * kReceives + buffer) * kLaneFenceBytes, kLaneFenceBytes);
  return {into.data(), kLaneFenceBytes, fence_region_->local_key(), first_ids_[lane] + buffer};
}

std::vector<Receive> Inbound::receives(std::uint32_t lane) const {
  std::vector<Receive> all;
  for (std::size_t buffer = 0; buffer < kReceives; ++buffer) all.push_back(receive(lane, buffer));
  return all;
}

Result<> Inbound::expose(SlotId slot, Landing& landing) {
  const Lock lock(core_.mutex);
  RAMFERRY_TRY(core_.check("exposing memory"));
  return exposure_.slots().add(slot, landing);
}

Result<> Inbound::on_message(const WantMessage& message) {
  RAMFERRY_TRY_ASSIGN(const auto not_memory, exposure_.on_want(message));
  for (const ByMessage& each : not_memory) control_.post(each);
  start_workers_();
  ask_back();
  core_.work.notify_all();
  return {};
}

void Inbound::ask_back() {
  if (const std::uint64_t bytes = exposure_.reclaim(); bytes > 0) control_.post(Reclaim{bytes});
}

Result<> Inbound::on_message(Lock& lock, const ReleaseMessage& message) {
  std::vector<std::unique_ptr<PinnedRegion>> released;
  std::uint64_t bytes = 0;
  for (const Release& each : message.releases) {
    RAMFERRY_TRY_ASSIGN(auto region, exposure_.on_release(each));
    if (!region) continue;
    bytes += region->memory().size();
    released.push_back(std::move(region));
  }
  lock.unlock();
  released.clear();
  lock.lock();
  exposure_.deregistered(bytes);
  ask_back();
  core_.work.notify_all();
  return {};
}

bool Inbound::work(Lock& lock) {
  const auto piece = exposure_.take_work();
  if (!piece) return false;
  lock.unlock();
  // The peer counts from the first byte's place in its page: that much must agree, and says nothing about
  // where it is.
  const std::uint64_t base = reinterpret_cast<std::uintptr_t>(piece->memory.data()) % kPage;
  piece->landing->note_written(piece->offset, piece->memory.size());
  auto region = core_.pin(piece->memory, Rights::remote_write, base);
  lock.lock();
  if (region) {
    control_.post(GrantMessage{{exposure_.publish(*piece, base, std::move(*region))}});
  } else {
    const bool less = exposure_.refused(*piece) && core_.options.pin == Pin::demand &&
                      region.error().is(errc::memory_lock_limit);
    if (!less) core_.fail_with(std::move(region).error());
  }
  ask_back();
  core_.changed.notify_all();
  return true;
}

Result<> Inbound::on_message(const BytesMessage& message) {
  if (bytes_.has_ended()) return fail(errc::protocol_mismatch, "taking in bytes after their end");
  bytes_.push(message.bytes);
  core_.arrived.notify_all();
  return {};
}

void Inbound::on_finish() {
  bytes_.end();
  core_.arrived.notify_all();
}

void Inbound::enqueue(Item item) {
  items_.push_back(std::move(item));
  start_workers_();
  core_.work.notify_all();
}

Result<> Inbound::on_message(ZeroMessage message, std::uint64_t data_bytes) {
  // It would count nothing against our buffer, and wait all the same.
  if (message.runs.empty()) return fail(errc::protocol_mismatch, "taking in zero runs: there are none");
  for (const ZeroRun& run : message.runs)
    RAMFERRY_TRY(exposure_.slots().find(run.slot, run.offset, run.length));
  enqueue({std::move(message), data_bytes});
  return {};
}

Result<> Inbound::on_message(const StoreMessage& message, std::uint64_t data_bytes) {
  RAMFERRY_TRY(exposure_.slots().find(message.slot, message.offset, message.length));
  if (partial_ && !goes_on(partial_->head, message)) return bad_placement("another one is not complete");
  const bool raw = message.encoding == kRawEncoding;
  if (raw && (message.more || message.bytes.size() != message.length))
    return bad_placement("its length is not that of its bytes");
  if (!partial_) partial_ = Stored{message, {}};
  partial_->head.bytes = {};  // they are in the frame, which goes
  std::vector<std::byte>& bytes = partial_->bytes;
  if (bytes.size() + message.bytes.size() > kMostEncodedBytes) return bad_placement("it is too long");
  bytes.insert(bytes.end(), message.bytes.begin(), message.bytes.end());
  partial_bytes_ += data_bytes;
  if (message.more)
    pay_for_partial();
  else
    enqueue({*std::exchange(partial_, std::nullopt), std::exchange(partial_bytes_, 0)});
  return {};
}

void Inbound::pay_for_partial() {
  if (partial_bytes_ > 0 && items_.empty() && !applying_) control_.consumed(std::exchange(partial_bytes_, 0));
}

Result<> Inbound::on_message(const FenceMessage& message) {
  RAMFERRY_TRY(ledger_.on_control(message));
  bytes_.hold_for(message.epoch);
  if (!items_.empty() || applying_)
    enqueue({Mark{message.epoch}, 0});
  else
    ledger_.on_applied(message.epoch);
  return advance();
}

Result<> Inbound::on_lane(std::uint32_t lane, std::size_t buffer, std::uint32_t bytes) {
  core_.counters.wire_bytes_received.add(bytes);
  const Receive where = receive(lane, buffer);
  RAMFERRY_TRY_ASSIGN(const LaneFence fence, decode_lane_fence(ConstBytes(
                                                 where.into, std::min<std::size_t>(bytes, kLaneFenceBytes))));
  RAMFERRY_TRY(ledger_.on_lane(lane, fence));
  return advance();
}

Result<> Inbound::advance() {
  RAMFERRY_TRY_ASSIGN(const FenceLedger::Completed done, ledger_.take_completed());
  if (done.newest == 0) return {};
  core_.counters.placed_bytes_received.add(done.bytes);
  core_.counters.wire_bytes_received.add(done.bytes);
  bytes_.completed(done.newest);
  control_.post(Settled{done.newest});
  core_.arrived.notify_all();
  return {};
}

bool Inbound::apply(Lock& lock) {
  if (items_.empty() || applying_ || core_.failure) return false;
  const Item item = std::move(items_.front());
  items_.pop_front();
  applying_ = true;
  lock.unlock();
  auto applied = apply_item(item);
  lock.lock();
  applying_ = false;
  if (item.data_bytes > 0) control_.consumed(item.data_bytes);
  pay_for_partial();
  if (const Mark* mark = std::get_if<Mark>(&item.what)) {
    ledger_.on_applied(mark->epoch);
    applied = advance();
  }
  if (!applied) core_.fail_with(std::move(applied).error());
  core_.changed.notify_all();
  return true;
}

Result<> Inbound::apply_item(const Item& item) {
  if (const auto* zero = std::get_if<ZeroMessage>(&item.what)) {
    for (const ZeroRun& run : zero->runs) {
      // Looked up again: the slots may have been revoked since it came.
      RAMFERRY_TRY_ASSIGN(Landing * landing, exposure_.slots().find(run.slot, run.offset, run.length));
      RAMFERRY_TRY(landing->zero(run.offset, run.length));
      core_.counters.zero_bytes_received.add(run.length);
    }
  }
  if (const auto* stored = std::get_if<Stored>(&item.what)) {
    const StoreMessage& head = stored->head;
    RAMFERRY_TRY_ASSIGN(Landing * landing, exposure_.slots().find(head.slot, head.offset, head.length));
    RAMFERRY_TRY(store(*landing, head, stored->bytes));
    core_.counters.placed_bytes_received.add(head.length);
    core_.counters.copied_bytes.add(stored->bytes.size());
  }
  return {};
}

}  // namespace ramferry::rdma
