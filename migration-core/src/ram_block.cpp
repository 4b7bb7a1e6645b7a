// SPDX-License-Identifier: MIT
#include <ramferry/migration/ram_block.hpp>

#include <algorithm>
#include <bit>
#include <cassert>
#include <string>
#include <utility>

namespace ramferry::migration {
namespace {

constexpr std::size_t kLongestName = 255;  // its length is one byte on the wire

Result<> check(const RamBlock& block) {
  const std::string doing = "describing RAM block '" + block.name + "'";
  const auto reject = [&](const std::string& why) {
    return fail(errc::invalid_argument, doing + ": " + why);
  };
  if (block.name.empty() || block.name.size() > kLongestName) return reject("a name has 1 to 255 bytes");
  for (const std::uint64_t page : {block.page_bytes, block.backing.page_bytes}) {
    if (!std::has_single_bit(page))
      return reject("page size " + std::to_string(page) + " is no power of two");
    if (block.host.empty() || block.host.size() % page != 0)
      return reject(std::to_string(block.host.size()) + " bytes are no multiple of " + std::to_string(page));
  }
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast)
  if (reinterpret_cast<std::uintptr_t>(block.host.data()) % block.backing.page_bytes != 0)
    return reject("its memory does not begin on a page of " + std::to_string(block.backing.page_bytes) +
                  " bytes");
  if (block.backing.kind == Backing::Kind::shared_fd && block.backing.fd < 0)
    return reject("shared memory needs its file descriptor");
  return {};
}

/// Each block against the ones before it. Layouts have a handful of blocks.
Result<> check_distinct(std::span<const RamBlock> blocks) {
  for (std::size_t later = 1; later < blocks.size(); ++later) {
    const RamBlock& block = blocks[later];
    for (const RamBlock& other : blocks.first(later)) {
      if (other.name == block.name)
        return fail(errc::invalid_argument, "describing RAM: two blocks are named '" + block.name + "'");
      if (other.host.data() < block.host.data() + block.host.size() &&
          block.host.data() < other.host.data() + other.host.size())
        return fail(errc::invalid_argument,
                    "describing RAM: blocks '" + other.name + "' and '" + block.name + "' overlap");
    }
  }
  return {};
}

}  // namespace

Result<RamLayout> RamLayout::make(std::vector<RamBlock> blocks) {
  for (const RamBlock& block : blocks) RAMFERRY_TRY(check(block));
  RAMFERRY_TRY(check_distinct(blocks));
  RamLayout layout;
  for (const RamBlock& block : blocks) {
    layout.bytes_ += block.host.size();
    layout.pages_ += block.pages();
  }
  layout.blocks_ = std::move(blocks);
  return layout;
}

std::optional<std::uint32_t> RamLayout::find(std::string_view name) const noexcept {
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(), [&](const RamBlock& b) { return b.name == name; });
  if (found == blocks_.end()) return std::nullopt;
  return static_cast<std::uint32_t>(found - blocks_.begin());
}

Bytes RamLayout::memory(const PageRun& run) const noexcept {
  const RamBlock& block = blocks_[run.block];
  assert(run.first <= block.pages() && run.count <= block.pages() - run.first);
  return block.host.subspan(run.first * block.page_bytes, run.count * block.page_bytes);
}

}  // namespace ramferry::migration
