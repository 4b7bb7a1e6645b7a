// SPDX-License-Identifier: MIT
// Registration ahead of placing, and fences. Placing itself is in outbound_place.cpp.
#include "outbound.hpp"

#include <algorithm>
#include <utility>

namespace ramferry::rdma {
namespace {

using std::chrono::steady_clock;

constexpr std::uint64_t kListBytes = 2 << 20;
constexpr std::uint64_t kMostRegions = 4096;

/// Calls `post` with one list after the other, of `most` entries at most: what one message carries.
template <class Entry, class Post>
void in_lists(const std::vector<Entry>& all, std::size_t most, Post post) {
  for (auto from = all.begin(); from != all.end();) {
    const auto count = std::min(static_cast<std::ptrdiff_t>(most), all.end() - from);
    post(std::vector<Entry>(from, from + count));
    from += count;
  }
}

}  // namespace

Outbound::Outbound(Core& core, ControlLink& control, std::function<void()> start_workers) noexcept
    : core_(core),
      control_(control),
      start_workers_(std::move(start_workers)),
      local_(core.plan, core.options.pin, std::min(kMostRegions, core.domain->device().max_regions / 4)),
      ring_(core.plan.staging) {}

Result<> Outbound::prepare_lanes(std::uint32_t lanes, std::uint32_t depth,
                                 const std::function<std::uint64_t(std::uint32_t)>& first_id) {
  fence_memory_.resize(std::size_t{lanes} * kMostUnsettled * kLaneFenceBytes);
  RAMFERRY_TRY_ASSIGN(fence_region_, core_.pin(fence_memory_, Rights::read));
  const std::uint64_t window = core_.options.window;
  const Lane::Limits limits{depth, window, std::min(kListBytes, window / 2)};
  for (std::uint32_t lane = 0; lane < lanes; ++lane) lanes_.emplace_back(limits, first_id(lane));
  staging_uses_.resize(lanes);
  return {};
}

Result<> Outbound::lend(std::span<const Placement> plan) {
  // Needed sooner or later, and while there is still room for it.
  if (core_.options.pin == Pin::demand) RAMFERRY_TRY(ring_.prepare(core_));
  Lock lock(core_.mutex);
  RAMFERRY_TRY(core_.check("lending memory"));
  used_ = true;
  const auto added = local_.add(plan);
  if (added.empty()) return {};
  start_workers_();
  core_.work.notify_all();
  if (core_.options.pin == Pin::demand) return {};
  std::vector<Want> wants;
  for (const LocalChunk* chunk : added) {
    for (const Want& want : remote_.want(chunk->slot, chunk->offset, chunk->memory.size(), 0))
      wants.push_back(want);
  }
  send_wants(wants, false);
  return {};
}

void Outbound::send_wants(const std::vector<Want>& wants, bool urgent) {
  in_lists(wants, kMostWants, [&](std::vector<Want> list) {
    control_.post(WantMessage{urgent, std::move(list)});
  });
}

Result<> Outbound::prepare(ConstBytes range) {
  Lock lock(core_.mutex);
  while (!range.empty()) {
    LocalChunk* const chunk = local_.find(range.data());
    std::size_t size = local_.gap_after(range.data());
    if (chunk != nullptr) {
      size = static_cast<std::size_t>(chunk->memory.data() + chunk->memory.size() - range.data());
      RAMFERRY_TRY(await_chunk(lock, *chunk));
      chunk->sealed = true;
    }
    range = range.subspan(std::min(size, range.size()));
  }
  return core_.check("preparing memory");
}

Result<> Outbound::await_chunk(Lock& lock, LocalChunk& chunk) {
  local_.touch(chunk);
  core_.work.notify_all();  // one further chunk may be registered ahead now
  while (!chunk.is_settled()) {
    RAMFERRY_TRY(core_.check("waiting for memory to be registered"));
    if (chunk.state == LocalChunk::State::waiting) {
      RAMFERRY_TRY(make_room(lock, chunk.memory.size()));
      local_.promote(chunk);
      core_.work.notify_all();
    }
    if (!chunk.is_settled()) Core::wait_once(core_.changed, lock, Deadline::never());
  }
  return {};
}

Result<> Outbound::make_room(Lock& lock, std::uint64_t bytes) {
  while (core_.options.pin == Pin::demand && local_.is_over(bytes)) {
    if (auto region = local_.evict()) {
      const std::uint64_t size = region->memory().size();
      lock.unlock();
      region.reset();
      lock.lock();
      local_.deregistered(size);
      continue;
    }
    RAMFERRY_TRY(flush_all(lock));
    if (std::all_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.is_idle(); })) return {};
    RAMFERRY_TRY(core_.check("waiting for registered memory to be free"));
    Core::wait_once(core_.changed, lock, Deadline::never());
  }
  return {};
}

bool Outbound::work(Lock& lock) {
  LocalChunk* const chunk = local_.take_work();
  if (chunk == nullptr) return false;
  lock.unlock();
  auto region = core_.pin(chunk->memory, Rights::read);
  lock.lock();
  if (region) {
    local_.registered(*chunk, std::move(*region));
    if (core_.options.pin == Pin::demand)
      send_wants(remote_.want(chunk->slot, chunk->offset, chunk->memory.size(), 0), false);
  } else if (core_.options.pin == Pin::demand && region.error().is(errc::memory_lock_limit)) {
    local_.refused(*chunk);
  } else {
    core_.fail_with(std::move(region).error());
  }
  core_.changed.notify_all();
  return true;
}

Result<Epoch> Outbound::fence() {
  Lock lock(core_.mutex);
  RAMFERRY_TRY(core_.wait_until(lock, Deadline::never(), "fencing",
                                [this] { return fenced_ - settled() < kMostUnsettled; }));
  FenceMessage fence{.epoch = fenced_ + 1};
  for (std::uint32_t i = 0; i < lanes_.size(); ++i) {
    Lane& lane = lanes_[i];
    if (!lane.unfenced()) continue;
    const LaneFence own = lane.since_fence(fence.epoch);
    const std::size_t slot = std::size_t{i} * kMostUnsettled + fence.epoch % kMostUnsettled;
    const Bytes into = Bytes(fence_memory_).subspan(slot * kLaneFenceBytes, kLaneFenceBytes);
    encode(own, into);
    lane.stage_fence(into, fence_region_->local_key());
    RAMFERRY_TRY(flush(lock, i));
    fence.lanes |= 1ULL << i;
    fence.writes += own.writes;
    fence.bytes += own.bytes;
  }
  note_outstanding();
  fenced_ = fence.epoch;
  unfenced_ = false;
  control_.post(fence);
  core_.counters.fences.add(1);
  return fenced_;
}

Result<> Outbound::settle(Epoch epoch, Deadline deadline) {
  Lock lock(core_.mutex);
  if (epoch <= settled()) return {};
  RAMFERRY_TRY(core_.check("waiting for the peer to acknowledge what was placed"));
  if (epoch > fenced_)
    return fail(errc::invalid_argument, "settling epoch " + std::to_string(epoch) + ": no such fence");
  return core_.wait_until(lock, deadline, "waiting for the peer to acknowledge what was placed",
                          [&] { return settled() >= epoch; });
}

Result<> Outbound::on_completed(std::uint32_t lane, std::uint64_t id) {
  RAMFERRY_TRY(lanes_[lane].on_completed(id, ring_));
  give_back();
  core_.changed.notify_all();
  return {};
}

Result<> Outbound::on_message(const GrantMessage& message) {
  for (const Grant& grant : message.grants) RAMFERRY_TRY(remote_.on_grant(grant));
  give_back();  // what was asked back before it came
  core_.changed.notify_all();
  return {};
}

Result<> Outbound::on_message(const ByMessage& message) {
  RAMFERRY_TRY(remote_.on_by_message(message));
  core_.changed.notify_all();
  return {};
}

void Outbound::on_message(const Reclaim& message) {
  remote_.on_reclaim(message.bytes);
  give_back();
}

void Outbound::give_back() {
  in_lists(remote_.give_back(), kMostReleases,
           [&](std::vector<Release> list) { control_.post(ReleaseMessage{std::move(list)}); });
}

Result<> Outbound::on_message(const Settled& message) {
  if (message.epoch > fenced_ || message.epoch <= settled())
    return fail(errc::protocol_mismatch, "taking in an acknowledgement of epoch " +
                                             std::to_string(message.epoch) + ": it is not outstanding");
  longest_silence_ = longest_silence();
  silent_since_.reset();
  settled_.store(message.epoch, std::memory_order_release);
  if (unfenced_ || fenced_ > message.epoch) silent_since_ = steady_clock::now();
  core_.changed.notify_all();
  return {};
}

Result<> Outbound::on_message(const Revoked& /*message*/) {
  closed_ = Error{make_error_code(errc::peer_failed), "placing: the peer has closed its windows", {}};
  core_.changed.notify_all();
  if (fenced_ > settled() || unfenced_) return Failure(*closed_);
  return {};
}

void Outbound::note_outstanding() noexcept {
  unfenced_ = true;
  if (!silent_since_) silent_since_ = steady_clock::now();
}

steady_clock::duration Outbound::longest_silence() const noexcept {
  return silent_since_ ? std::max(longest_silence_, steady_clock::now() - *silent_since_) : longest_silence_;
}

void Outbound::on_lanes_closed() {
  if (!closed_) closed_ = Error{make_error_code(errc::wrong_state), "placing: the lanes are closed", {}};
  core_.changed.notify_all();
}

}  // namespace ramferry::rdma
