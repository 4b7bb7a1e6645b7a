// SPDX-License-Identifier: MIT
// What a completion's id says: whose it is, on which lane, and a number: a buffer or a list.
#pragma once

#include <cstdint>

namespace ramferry::rdma {

enum class Work : std::uint8_t { control_send = 1, control_receive, lane_send, lane_receive };

constexpr std::uint64_t make_id(Work work, std::uint32_t lane = 0) noexcept {
  return std::uint64_t{static_cast<std::uint8_t>(work)} << 56 | std::uint64_t{lane} << 48;
}
constexpr Work work_of(std::uint64_t id) noexcept {
  return static_cast<Work>(id >> 56);
}
constexpr std::uint32_t lane_of(std::uint64_t id) noexcept {
  return static_cast<std::uint32_t>(id >> 48 & 0xff);
}
constexpr std::uint64_t number_of(std::uint64_t id) noexcept {
  return id & 0xffff'ffff'ffff;
}

}  // namespace ramferry::rdma
