// SPDX-License-Identifier: MIT
#include "fence_ledger.hpp"

#include <string>

namespace ramferry::rdma {
namespace {

Failure mismatch(Epoch epoch, const std::string& what) {
  return fail(errc::protocol_mismatch, "taking in the fence of epoch " + std::to_string(epoch) + ": " + what);
}

}  // namespace

Result<FenceLedger::Open*> FenceLedger::open(Epoch epoch) {
  if (epoch <= completed_) return mismatch(epoch, "that epoch is over");
  if (epoch - completed_ > most_open_) return mismatch(epoch, "too many fences at once");
  while (open_.size() < epoch - completed_) open_.emplace_back();
  return &open_[epoch - completed_ - 1];
}

Result<> FenceLedger::on_control(const FenceMessage& fence) {
  if (fence.epoch != fenced_ + 1) return mismatch(fence.epoch, "it should be " + std::to_string(fenced_ + 1));
  if (lanes_ < 64 && (fence.lanes >> lanes_) != 0)
    return mismatch(fence.epoch, "it names lanes that do not exist");
  RAMFERRY_TRY_ASSIGN(Open * epoch, open(fence.epoch));
  fenced_ = fence.epoch;
  epoch->fenced = true;
  epoch->wanted = fence;
  return {};
}

Result<> FenceLedger::on_lane(std::uint32_t lane, const LaneFence& fence) {
  RAMFERRY_TRY_ASSIGN(Open * epoch, open(fence.epoch));
  const std::uint64_t bit = 1ULL << lane;
  if ((epoch->arrived & bit) != 0) return mismatch(fence.epoch, "twice on lane " + std::to_string(lane));
  epoch->arrived |= bit;
  epoch->writes += fence.writes;
  epoch->bytes += fence.bytes;
  return {};
}

void FenceLedger::on_applied(Epoch epoch) noexcept {
  if (epoch > completed_ && epoch - completed_ <= open_.size()) open_[epoch - completed_ - 1].applied = true;
}

Result<FenceLedger::Completed> FenceLedger::take_completed() {
  Completed done;
  while (!open_.empty()) {
    const Open& next = open_.front();
    if (!next.fenced || !next.applied) break;
    if ((next.arrived & ~next.wanted.lanes) != 0)
      return mismatch(completed_ + 1, "on a lane that it does not name");
    if (next.arrived != next.wanted.lanes) break;
    if (next.writes != next.wanted.writes || next.bytes != next.wanted.bytes)
      return mismatch(completed_ + 1, "the lanes' counts do not add up to its own");
    done.bytes += next.bytes;
    done.newest = ++completed_;
    open_.pop_front();
  }
  return done;
}

}  // namespace ramferry::rdma
