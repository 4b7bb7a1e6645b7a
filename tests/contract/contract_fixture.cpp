// SPDX-License-Identifier: MIT
#include "contract/channel_contract.hpp"

#include <array>

namespace ramferry::test {

void ChannelContract::connect() {
  pair_ = {};
  landings_.clear();
  storing_.clear();
  memories_.clear();
  auto pair = GetParam().connect(SessionId::random());
  ASSERT_TRUE(pair.has_value()) << why(pair);
  pair_ = std::move(*pair);
}

void ChannelContract::cancel_both() const noexcept {
  if (pair_.source) pair_.source->cancel();
  if (pair_.destination) pair_.destination->cancel();
}

Bytes ChannelContract::memory(std::size_t size) {
  return memories_.emplace_back(size).bytes();
}

Bytes ChannelContract::lent_memory(Channel& channel, std::size_t size, SlotId slot, std::uint64_t offset) {
  const Bytes bytes = memory(size);
  lend(channel, bytes, slot, offset);
  return bytes;
}

void ChannelContract::lend(Channel& channel, Bytes bytes, SlotId slot, std::uint64_t offset) {
  const std::array plan = {Placement{.slot = slot, .offset = offset, .bytes = bytes}};
  RAMFERRY_EXPECT_OK(channel.lend(plan));
  RAMFERRY_EXPECT_OK(channel.prepare(bytes));
}

Bytes ChannelContract::expose_memory(Channel& channel, SlotId slot, std::size_t size) {
  const Bytes bytes = memory(size);
  std::fill(bytes.begin(), bytes.end(), std::byte{0xaa});
  expose(channel, slot, bytes, MemoryLanding::Content::unknown);
  return bytes;
}

MemoryLanding& ChannelContract::expose(Channel& channel, SlotId slot, Bytes memory,
                                       MemoryLanding::Content content) {
  MemoryLanding& landing = landings_.emplace_back(memory, content);
  RAMFERRY_EXPECT_OK(channel.expose(slot, landing));
  return landing;
}

StoringLanding& ChannelContract::expose_storing(Channel& channel, SlotId slot, std::uint64_t size,
                                                StoringLanding::Keep keep) {
  StoringLanding& landing = storing_.emplace_back(size, keep);
  RAMFERRY_EXPECT_OK(channel.expose(slot, landing));
  return landing;
}

Result<> settle_all(Channel& channel, Deadline deadline) {
  RAMFERRY_TRY_ASSIGN(const Epoch epoch, channel.fence());
  return channel.settle(epoch, deadline);
}

}  // namespace ramferry::test
