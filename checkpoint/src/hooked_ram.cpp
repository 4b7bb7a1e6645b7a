// SPDX-License-Identifier: MIT
#include "hooked_ram.hpp"

#include <ramferry/endpoint.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>

namespace ramferry::checkpoint {

/// A RAM block's memory, and what is known of its pages.
class HookedRam::Block final : public Landing {
 public:
  static Result<std::unique_ptr<Block>> make(const BlockInfo& info) {
    std::unique_ptr<Block> block(new Block(info.bytes));
    if (info.bytes == 0) return block;
    void* const at = ::mmap(nullptr, info.bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
      return fail_errno(errno, "making room for RAM block '" + info.name + "' of " + format_size(info.bytes));
    block->memory_ = Bytes(static_cast<std::byte*>(at), info.bytes);
    static_cast<void>(::madvise(at, info.bytes, MADV_DONTFORK));
    block->landing_.emplace(block->memory_, MemoryLanding::Content::blank);
    return block;
  }
  ~Block() override {
    if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
  }

  std::uint64_t size() const noexcept override { return memory_.size(); }
  Bytes window(std::uint64_t offset, std::uint64_t length) noexcept override {
    return landing_->window(offset, length);
  }
  void note_written(std::uint64_t offset, std::uint64_t length) noexcept override {
    landing_->note_written(offset, length);
    raise(offset, length, Page::open);
  }
  Result<> zero(std::uint64_t offset, std::uint64_t length) override {
    RAMFERRY_TRY(landing_->zero(offset, length));
    raise(offset, length, Page::zeroed);
    return {};
  }

  Result<> keep(StreamSaver& into, std::uint32_t number) const {
    for (std::size_t page = 0; page < pages_.size(); ++page) {
      const std::uint64_t offset = page * kPageBytes;
      if (pages_[page] == Page::open)
        RAMFERRY_TRY(into.page(number, offset, memory_.subspan(offset, kPageBytes)));
      if (pages_[page] == Page::zeroed) RAMFERRY_TRY(into.fill(number, offset, 0));
    }
    return into.flush();
  }

 private:
  enum class Page : std::uint8_t { missing, zeroed, open };

  explicit Block(std::uint64_t bytes) : pages_(bytes / kPageBytes) {}
  /// Pages that lie in the range, whole or in part.
  void raise(std::uint64_t offset, std::uint64_t length, Page to) noexcept {
    if (length == 0) return;
    const std::uint64_t last = (offset + length - 1) / kPageBytes;
    for (std::uint64_t page = offset / kPageBytes; page <= last; ++page)
      pages_[page] = std::max(pages_[page], to);
  }

  Bytes memory_;
  std::optional<MemoryLanding> landing_;
  std::vector<Page> pages_;
};

HookedRam::HookedRam(HookedStream& stream) : stream_(stream) {}
HookedRam::~HookedRam() = default;

Result<> HookedRam::begin(const std::vector<BlockInfo>& blocks) {
  std::vector<Landing*> landings;
  for (const BlockInfo& info : blocks) {
    RAMFERRY_TRY_ASSIGN(auto block, Block::make(info));
    landings.push_back(block.get());
    blocks_.push_back(std::move(block));
  }
  return stream_.land(std::move(landings));
}

Result<> HookedRam::keep(StreamSaver& into) {
  stream_.close_windows();
  for (std::uint32_t number = 0; number < blocks_.size(); ++number)
    RAMFERRY_TRY(blocks_[number]->keep(into, number));
  return {};
}

}  // namespace ramferry::checkpoint
