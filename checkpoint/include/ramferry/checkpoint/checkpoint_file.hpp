// SPDX-License-Identifier: MIT
// A finished checkpoint: what is in it, and its pages. docs/checkpoint-format.md has the format.
//
// One thread. Every byte is checked before it is used: a file may be damaged, or made to harm.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/session_id.hpp>
#include <ramferry/unique_fd.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace ramferry::checkpoint {

inline constexpr std::uint64_t kPageBytes = 4096;

namespace format {
struct Outline;
}

struct BlockInfo {
  std::string name;
  std::uint64_t bytes = 0;
  bool operator==(const BlockInfo&) const = default;
};

/// Which of the two dialects the source spoke.
enum class Origin : std::uint8_t { qemu = 1, native = 2 };

/// Adjacent pages of a block with content, in adjacent places of the file.
struct StoredRun {
  std::uint32_t block = 0;
  std::uint64_t first = 0, count = 0;  ///< pages
  std::uint64_t at = 0;                ///< where the first one is in the file
  std::size_t sums = 0;                ///< index of the first one's checksum
};

/// Page `index` of a run, and where it is to go: kPageBytes.
struct PageRead {
  const StoredRun* run = nullptr;
  std::uint64_t index = 0;
  Bytes into;
};

/// Everything but the pages.
struct CheckpointHead {
  Origin origin = Origin::qemu;
  SessionId session;                     ///< of the migration that it was taken by
  std::int64_t taken = 0;                ///< seconds since 1970
  std::string machine;                   ///< as the stream's configuration has it
  std::vector<std::byte> configuration;  ///< the stream's first bytes, up to its first section
  std::uint32_t ram_section = 0;         ///< the number of the RAM section in the stream
  std::vector<BlockInfo> blocks;
  std::vector<std::byte> beside;     ///< frames of live sections beside RAM; those of our own VM
  std::vector<std::byte> state;      ///< the stream from the end of the RAM section to its own
  std::uint64_t description_at = 0;  ///< of the JSON text in `state`; its length is 0 if there is none
  std::uint64_t description_length = 0;

  std::string_view description() const noexcept {
    return {reinterpret_cast<const char*>(state.data()) + description_at, description_length};
  }
};

/// The migration stream of this machine without its pages: what a program needs that only wants to look at
/// the rest.
std::vector<std::byte> stream_without_pages(const CheckpointHead& head);

class CheckpointFile {
 public:
  /// errc::protocol_mismatch for a file that is no checkpoint, or is damaged.
  static Result<CheckpointFile> open(const std::filesystem::path& path);
  /// Whether the file begins like one.
  static Result<bool> is_checkpoint(const std::filesystem::path& path);
  /// head().origin of a file that need not be read, or checked, for more than that.
  static Result<Origin> origin_of(const std::filesystem::path& path);

  const CheckpointHead& head() const noexcept { return head_; }
  /// By block, then by page.
  std::span<const StoredRun> runs() const noexcept { return runs_; }
  std::uint64_t stored_pages() const noexcept { return sums_.size(); }
  std::uint64_t ram_bytes() const noexcept;
  std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  /// Reads and checks pages [skip, skip + into.size()) of a run, each into its own kPageBytes.
  /// errc::protocol_mismatch names the first page that is damaged.
  Result<> read(const StoredRun& run, std::uint64_t skip, std::span<const Bytes> into) const;
  /// The same for pages of several runs; those that are neighbours in the file are read together.
  Result<> read(std::span<const PageRead> pages) const;
  /// Reads and checks every page.
  Result<> verify() const;

 private:
  static Result<CheckpointFile> opened(const std::filesystem::path& path);
  Result<format::Outline> read_outline() const;
  Result<> read_head();
  Result<> parse(ConstBytes metadata);

  std::string name_;
  UniqueFd fd_;
  CheckpointHead head_;
  std::vector<StoredRun> runs_;
  std::vector<std::uint64_t> sums_;
  std::uint64_t slots_ = 0, file_bytes_ = 0;
};

}  // namespace ramferry::checkpoint
