// SPDX-License-Identifier: MIT
// Placing: from extents to lists of writes.
#include "outbound.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace ramferry::rdma {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kStripe = kMostMessageBytes;  // of a slot; the next one is another lane's
constexpr std::uint64_t kReach = 1 << 20;             // asked for along with what was not lent
constexpr std::size_t kStoreBytes = kMostBody - kStoreHead;
constexpr std::size_t kWorthAWindow = 128 << 10;  // what comes again, and is less, goes by message

}  // namespace

Result<> Outbound::place(std::span<const Placement> batch) {
  Lock lock(core_.mutex);
  RAMFERRY_TRY(check_open());
  for (const Placement& each : batch) {
    used_ = true;
    note_outstanding();
    if (each.encoding != kRawEncoding)
      RAMFERRY_TRY(store(lock, each));
    else
      RAMFERRY_TRY(place_raw(lock, each));
    core_.counters.placed_bytes_sent.add(each.length);
  }
  // A busy lane gathers more; an idle one starts at once.
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    if (lanes_[lane].has_staged() && lanes_[lane].is_idle()) RAMFERRY_TRY(flush(lock, lane));
  }
  return {};
}

/// Placing after the peer has closed its windows costs the channel; that we closed the lanes only the call.
Result<> Outbound::check_open() {
  RAMFERRY_TRY(core_.check("placing"));
  if (!closed_) return {};
  if (closed_->is(errc::peer_failed)) core_.fail_with(*closed_);
  return Failure(*closed_);
}

Result<> Outbound::place_raw(Lock& lock, const Placement& placement) {
  if (placement.length != placement.bytes.size())
    return fail(errc::invalid_argument, "placing: a raw placement is as long as its bytes");
  if (placement.length > ~0ULL - placement.offset)
    return fail(errc::invalid_argument, "placing: the range wraps around");
  // All of it or nothing: so know how large the slot is before any of it leaves.
  if (placement.bytes.empty()) return {};
  if (!remote_.size(placement.slot)) RAMFERRY_TRY(await_window(lock, placement));
  const std::uint64_t size = remote_.size(placement.slot).value_or(0);
  if (placement.offset > size || placement.length > size - placement.offset)
    return fail(errc::invalid_argument, "placing: the slot has only " + std::to_string(size) + " bytes");
  Placement rest = placement;
  while (!rest.bytes.empty()) {
    RAMFERRY_TRY(check_open());
    if (goes_by_message(rest)) return store(lock, rest);
    RAMFERRY_TRY_ASSIGN(const std::size_t placed, place_some(lock, rest));
    rest.offset += placed;
    rest.length -= placed;
    rest.bytes = rest.bytes.subspan(placed);
  }
  return {};
}

/// Where the slot is not memory; and what comes again and would cost the peer a registration for a few pages,
/// and another one for the pages that have to give way.
bool Outbound::goes_by_message(const Placement& rest) noexcept {
  if (remote_.is_by_message(rest.slot)) return true;
  return rest.bytes.size() < kWorthAWindow && remote_.find(rest.slot, rest.offset) == nullptr &&
         remote_.was_given_back(rest.slot, rest.offset);
}

std::uint32_t Outbound::lane_of(const Placement& rest) const noexcept {
  const std::uint64_t stripe = rest.offset / kStripe + static_cast<std::uint32_t>(rest.slot);
  return static_cast<std::uint32_t>(stripe % lanes_.size());
}

// Each wait gives up the lock, so it ends this attempt and what was looked up is looked up again.
Result<std::size_t> Outbound::place_some(Lock& lock, const Placement& rest) {
  RemoteWindow* const window = remote_.find(rest.slot, rest.offset);
  if (window == nullptr) {
    RAMFERRY_TRY(await_window(lock, rest));
    return 0U;
  }
  const std::uint32_t index = lane_of(rest);
  Lane& lane = lanes_[index];
  if (lane.list_is_full()) {
    RAMFERRY_TRY(flush(lock, index));
    return 0U;
  }
  LocalChunk* const chunk = local_.find(rest.bytes.data());
  if (chunk != nullptr && !chunk->is_settled()) {
    RAMFERRY_TRY(await_chunk(lock, *chunk));
    return 0U;
  }
  const std::uint64_t local_left =
      chunk == nullptr
          ? local_.gap_after(rest.bytes.data())
          : static_cast<std::uint64_t>(chunk->memory.data() + chunk->memory.size() - rest.bytes.data());
  const std::uint64_t most =
      std::min({std::uint64_t{rest.bytes.size()}, window->offset + window->length - rest.offset,
                kStripe - rest.offset % kStripe, local_left});
  ConstBytes bytes = rest.bytes.first(most);
  const bool registered = chunk != nullptr && chunk->state == LocalChunk::State::ready;
  if (!registered) {
    bytes = copy_to_staging(index, bytes);
    if (bytes.empty()) {
      RAMFERRY_TRY(await_staging(lock));
      return 0U;
    }
  }
  remote_.touch(*window, rest.offset + bytes.size());
  if (chunk != nullptr) local_.touch(*chunk);
  lane.stage({.local = bytes.data(),
              .length = static_cast<std::uint32_t>(bytes.size()),
              .local_key = registered ? chunk->region->local_key() : ring_.local_key(),
              .remote_key = window->key,
              .remote_address = window->base + (rest.offset - window->offset)},
             {registered ? chunk : nullptr, window});
  return bytes.size();
}

Result<> Outbound::await_window(Lock& lock, const Placement& rest) {
  RAMFERRY_TRY(flush_all(lock));  // what it holds may be what the peer needs back
  RAMFERRY_TRY(check_open());
  const auto is_there = [&] {
    return closed_ || remote_.is_by_message(rest.slot) || remote_.find(rest.slot, rest.offset) != nullptr;
  };
  if (is_there()) return {};
  const std::uint64_t length = std::min<std::uint64_t>(rest.bytes.size(), core_.plan.chunk);
  const bool planned = local_.find(rest.bytes.data()) != nullptr;
  std::vector<Want> wants = remote_.want(rest.slot, rest.offset, length, planned ? 0 : kReach);
  wants.push_back({rest.slot, rest.offset, length, 0});  // asked for before perhaps, but now it is urgent
  send_wants(wants, true);
  remote_.keep(rest.slot, rest.offset);
  return core_.wait_until(lock, Deadline::never(), "waiting for the peer's memory", is_there);
}

ConstBytes Outbound::copy_to_staging(std::uint32_t lane, ConstBytes bytes) {
  StagingUse& use = staging_uses_[lane];
  if (!ring_.is_ready()) return {};
  if (use.used == StagingRing::kPieceBytes) {
    const auto piece = ring_.take();
    if (!piece) return {};
    use = {*piece, 0};
    lanes_[lane].stage_piece(*piece);
  }
  const std::size_t size = std::min(bytes.size(), StagingRing::kPieceBytes - use.used);
  const Bytes into = ring_.piece(use.piece).subspan(use.used, size);
  std::memcpy(into.data(), bytes.data(), size);
  use.used += size;
  core_.counters.copied_bytes.add(size);
  return into;
}

Result<> Outbound::await_staging(Lock& lock) {
  if (!ring_.is_ready()) {
    lock.unlock();
    auto prepared = ring_.prepare(core_);
    lock.lock();
    return prepared;
  }
  RAMFERRY_TRY(flush_all(lock));
  return core_.wait_until(lock, Deadline::never(), "waiting for room to copy to",
                          [this] { return ring_.has_free(); });
}

Result<> Outbound::flush_all(Lock& lock) {
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) RAMFERRY_TRY(flush(lock, lane));
  return {};
}

Result<> Outbound::flush(Lock& lock, std::uint32_t index) {
  Lane& lane = lanes_[index];
  if (!lane.has_staged()) return {};
  staging_uses_[index].used = StagingRing::kPieceBytes;
  RAMFERRY_TRY(core_.wait_until(lock, Deadline::never(), "waiting for writes to complete",
                                [&] { return lane.has_room(); }));
  return post(lock, lane);
}

Result<> Outbound::post(Lock& lock, Lane& lane) {
  std::span<const WorkRequest> rest = lane.launch();
  core_.counters.work_requests.add(rest.size());
  for (const WorkRequest& each : rest) core_.counters.wire_bytes_sent.add(each.length);
  while (!rest.empty()) {
    core_.counters.doorbells.add(1);
    core_.counters.system_calls.add(1);
    lock.unlock();
    const Posted posted = lane.queue()->post(rest);
    lock.lock();
    rest = rest.subspan(posted.count);
    if (!posted.error) continue;
    if (posted.error != std::errc::not_enough_memory) {
      core_.fail_with({posted.error, "posting writes", {}});
      return core_.check("placing");
    }
    // The device's queue is shorter than it said: some completion will make room.
    RAMFERRY_TRY(core_.check("placing"));
    Core::wait_once(core_.changed, lock, Deadline::after(milliseconds(1)));
  }
  return {};
}

Result<> Outbound::post_data(Lock& lock, const Message& message, std::uint64_t bytes) {
  RAMFERRY_TRY(core_.wait_until(lock, Deadline::never(), "waiting for the peer to take in messages",
                                [&] { return control_.has_room() && control_.fits(bytes); }));
  control_.post(message);
  return {};
}

Result<> Outbound::store(Lock& lock, const Placement& placement) {
  if (placement.encoding != kRawEncoding && placement.bytes.size() > kMostEncodedBytes)
    return fail(errc::invalid_argument, "placing: too many encoded bytes");
  if (placement.length > ~0ULL - placement.offset)
    return fail(errc::invalid_argument, "placing: the range wraps around");
  core_.counters.copied_bytes.add(placement.bytes.size());
  const bool raw = placement.encoding == kRawEncoding;
  ConstBytes rest = placement.bytes;
  std::uint64_t offset = placement.offset;
  do {
    const ConstBytes piece = rest.first(std::min(rest.size(), kStoreBytes));
    rest = rest.subspan(piece.size());
    RAMFERRY_TRY(post_data(lock,
                           StoreMessage{.slot = placement.slot,
                                        .offset = offset,
                                        .length = raw ? piece.size() : placement.length,
                                        .encoding = placement.encoding,
                                        .more = !raw && !rest.empty(),
                                        .bytes = piece},
                           kStoreHead + piece.size()));
    if (raw) offset += piece.size();
  } while (!rest.empty());
  return {};
}

Result<> Outbound::zero(std::span<const ZeroRun> runs) {
  Lock lock(core_.mutex);
  RAMFERRY_TRY(check_open());
  while (!runs.empty()) {
    const auto some = runs.first(std::min(runs.size(), kMostZeroRuns));
    runs = runs.subspan(some.size());
    note_outstanding();
    ZeroMessage message;
    for (const ZeroRun& run : some) {
      if (run.length == 0) continue;
      if (run.length > ~0ULL - run.offset)
        return fail(errc::invalid_argument, "zeroing: the range wraps around");
      message.runs.push_back(run);
      core_.counters.zero_bytes_sent.add(run.length);
    }
    if (!message.runs.empty()) RAMFERRY_TRY(post_data(lock, message, message.runs.size() * 20));
  }
  return {};
}

}  // namespace ramferry::rdma
