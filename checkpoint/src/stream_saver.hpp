// SPDX-License-Identifier: MIT
// Stores what a savevm stream says into a PageStore, many pages with one write. One thread; counters from
// any.
#pragma once

#include "page_writer.hpp"
#include "savevm_parser.hpp"

#include <atomic>
#include <bitset>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace ramferry::checkpoint {

/// The bits of pages that came, kept for 128 MiB at a time. Once the blocks are set, from any thread.
class SeenPages {
 public:
  void set_blocks(std::span<const BlockInfo> blocks);
  /// Whether it came for the first time.
  bool mark(std::uint32_t block, std::uint64_t offset);
  std::uint64_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kGroup = 32768;
  std::mutex mutex_;
  std::vector<std::vector<std::unique_ptr<std::bitset<kGroup>>>> groups_;
  std::atomic<std::uint64_t> count_ = 0;
};

class StreamSaver : public StreamEvents {
 public:
  /// `pages` is borrowed. Without it pages are counted, and not stored.
  explicit StreamSaver(PageStore* pages) : pages_(pages) {
    if (pages != nullptr) writer_.emplace(*pages);
  }

  Result<> head(ConstBytes bytes, const std::string& machine) override;
  Result<> command(std::uint16_t /*id*/, ConstBytes /*data*/) override { return {}; }
  Result<> ram_begins(std::uint32_t section, std::vector<BlockInfo> blocks) override;
  Result<> beside_ram(ConstBytes frame) override;
  Result<> page(std::uint32_t block, std::uint64_t offset, ConstBytes bytes) override;
  Result<> fill(std::uint32_t block, std::uint64_t offset, std::uint8_t value) override;
  Result<> delta(std::uint32_t block, std::uint64_t offset, ConstBytes delta) override;
  Result<> unpacked(std::uint32_t block, std::uint64_t offset, ConstBytes bytes) override;
  Result<> flush() override;
  Result<> age() override;
  /// No view is used any more when this returns; what was not stored is forgotten. For when receiving failed.
  void let_go() noexcept;

  /// Pages that come beside the stream, in any number of threads, each of which has pages of its own. The
  /// offsets were checked; `content` has kPageBytes for each.
  Result<> channel_pages(std::uint32_t block, std::span<const std::uint64_t> offsets, ConstBytes content);
  Result<> channel_zeros(std::uint32_t block, std::span<const std::uint64_t> offsets);
  /// Stores pages that may still change, and have not come yet: confirm_pages() follows, when nobody stores
  /// ahead any more.
  Result<> store_ahead(std::uint32_t block, std::span<const std::uint64_t> offsets, ConstBytes content);
  /// As channel_pages(), of pages of which some may have been stored ahead.
  Result<> confirm_pages(std::uint32_t block, std::span<const std::uint64_t> offsets, ConstBytes content);

  /// errc::protocol_mismatch unless every page came at least once.
  Result<> check_complete() const;

  const std::vector<std::byte>& configuration() const noexcept { return configuration_; }
  const std::string& machine() const noexcept { return machine_; }
  std::uint32_t ram_section() const noexcept { return ram_section_; }
  /// Frames of live sections beside RAM, in their order.
  const std::vector<std::byte>& beside() const noexcept { return beside_; }
  const std::vector<BlockInfo>& blocks() const noexcept { return blocks_; }
  std::uint64_t ram_bytes() const noexcept { return ram_bytes_.load(std::memory_order_relaxed); }
  std::uint64_t seen_bytes() const noexcept { return seen_.count() * kPageBytes; }

 private:
  PageStore* pages_;
  std::vector<std::byte> configuration_;
  std::string machine_;
  std::vector<std::byte> beside_;
  std::uint32_t ram_section_ = 0;
  std::vector<BlockInfo> blocks_;
  std::atomic<std::uint64_t> ram_bytes_ = 0;
  SeenPages seen_;
  std::vector<Piece> pending_;        ///< views of the input's buffer
  std::optional<PageWriter> writer_;  ///< with pages_
};

}  // namespace ramferry::checkpoint
