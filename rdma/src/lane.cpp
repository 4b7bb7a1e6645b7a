// SPDX-License-Identifier: MIT
#include "lane.hpp"

#include <utility>

namespace ramferry::rdma {

Lane::Lane(Limits limits, std::uint64_t first_id) noexcept : limits_(limits), next_id_(first_id) {}

bool Lane::merge(const LaneWrite& write) {
  if (staged_requests_.empty()) return false;
  WorkRequest& last = staged_requests_.back();
  if (last.kind != WorkRequest::Kind::write || last.local + last.length != write.local ||
      last.remote_address + last.length != write.remote_address || last.local_key != write.local_key ||
      last.remote_key != write.remote_key || last.length + write.length > kMostMessageBytes)
    return false;
  last.length += write.length;
  return true;
}

void Lane::hold(Flight* what) {
  if (what == nullptr) return;
  // Writes of one list mostly share their regions: looking at the last few avoids most repetition.
  const std::size_t count = staged_.holds.size();
  for (std::size_t back = 1; back <= 2 && back <= count; ++back) {
    if (staged_.holds[count - back] == what) return;
  }
  ++what->flying;
  staged_.holds.push_back(what);
}

void Lane::stage(const LaneWrite& write, std::array<Flight*, 2> holds) {
  for (Flight* each : holds) hold(each);
  staged_.bytes += write.length;
  bytes_ += write.length;
  if (merge(write)) return;
  ++writes_;
  staged_requests_.push_back({.kind = WorkRequest::Kind::write,
                              .local = write.local,
                              .length = write.length,
                              .local_key = write.local_key,
                              .remote_address = write.remote_address,
                              .remote_key = write.remote_key});
}

bool Lane::list_is_full() const noexcept {
  return staged_requests_.size() >= kMostListRequests || staged_.bytes >= limits_.list_bytes;
}

bool Lane::has_room() const noexcept {
  if (flying_.empty()) return true;
  return flying_bytes_ + staged_.bytes <= limits_.window &&
         flying_requests_ + staged_requests_.size() <= limits_.depth;
}

void Lane::stage_fence(ConstBytes buffer, std::uint32_t local_key) {
  staged_requests_.push_back({.kind = WorkRequest::Kind::send,
                              .local = buffer.data(),
                              .length = static_cast<std::uint32_t>(buffer.size()),
                              .local_key = local_key});
  writes_ = bytes_ = 0;
}

std::vector<WorkRequest>& Lane::launch() {
  // Any of a list may fail, so all carry its id; only the last reports success.
  const std::uint64_t id = next_id_++;
  for (WorkRequest& request : staged_requests_) request.id = id;
  staged_requests_.back().signaled = true;
  staged_.id = id;
  staged_.requests = staged_requests_.size();
  flying_bytes_ += staged_.bytes;
  flying_requests_ += staged_.requests;
  flying_.push_back(std::exchange(staged_, {}));
  posting_.clear();
  posting_.swap(staged_requests_);
  return posting_;
}

Result<> Lane::on_completed(std::uint64_t id, StagingRing& ring) {
  if (flying_.empty() || id < flying_.front().id || id > flying_.back().id)
    return fail(errc::io, "completing a list of writes that was not posted");
  while (!flying_.empty() && flying_.front().id <= id) {
    const List& list = flying_.front();
    flying_bytes_ -= list.bytes;
    flying_requests_ -= list.requests;
    for (Flight* each : list.holds) --each->flying;
    for (const std::size_t piece : list.pieces) ring.give_back(piece);
    flying_.pop_front();
  }
  return {};
}

}  // namespace ramferry::rdma
