// SPDX-License-Identifier: MIT
#include "inbox.hpp"

#include <algorithm>

namespace ramferry::tcp {

Inbox::Inbox(std::size_t capacity)
    : capacity_(capacity), memory_(std::make_unique_for_overwrite<std::byte[]>(capacity)) {}

std::array<Bytes, 2> Inbox::free(std::size_t bytes) noexcept {
  if (bytes > capacity_ - static_cast<std::size_t>(added_ - taken_)) return {};
  const auto at = static_cast<std::size_t>(added_ % capacity_);
  const std::size_t first = std::min(bytes, capacity_ - at);
  return {Bytes(&memory_[at], first), Bytes(memory_.get(), bytes - first)};
}

void Inbox::add(std::size_t bytes, Epoch after) {
  if (after != newest_) {
    barriers_.push_back({added_, after});
    newest_ = after;
  }
  added_ += bytes;
}

void Inbox::forget(Epoch passed) noexcept {
  while (!barriers_.empty() && barriers_.front().after <= passed) barriers_.pop_front();
}

bool Inbox::crowded(Epoch passed) noexcept {
  forget(passed);
  return barriers_.size() >= kMostBarriers;
}

std::array<ConstBytes, 2> Inbox::readable(Epoch passed, std::size_t most) noexcept {
  forget(passed);
  const std::uint64_t end = barriers_.empty() ? added_ : barriers_.front().at;
  const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(end - taken_, most));
  const auto at = static_cast<std::size_t>(taken_ % capacity_);
  const std::size_t first = std::min(bytes, capacity_ - at);
  return {ConstBytes(&memory_[at], first), ConstBytes(memory_.get(), bytes - first)};
}

}  // namespace ramferry::tcp
