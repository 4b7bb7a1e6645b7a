// SPDX-License-Identifier: MIT
// Whole reads and writes at an offset, and the checksum that checkpoints use. Any thread.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <sys/uio.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace ramferry::checkpoint {

/// A plain file to read from; errc::invalid_argument for anything else that has a name (a FIFO would wait for
/// its writer).
struct OpenFile {
  UniqueFd fd;
  std::uint64_t bytes = 0;  ///< as long as it is
};
Result<OpenFile> open_to_read(const std::filesystem::path& path);
/// Fills `into` from `offset` on; errc::protocol_mismatch if the file ends before.
Result<> read_at(int fd, std::uint64_t offset, Bytes into, const std::string& name);
/// The same into several pieces, at most IOV_MAX of them. Changes `pieces`.
Result<> read_at(int fd, std::uint64_t offset, std::span<iovec> pieces, const std::string& name);
Result<> write_at(int fd, std::uint64_t offset, ConstBytes from, const std::string& name);
Result<> write_at(int fd, std::uint64_t offset, std::span<iovec> pieces, const std::string& name);
/// The folder of `path`, to be synced when a name in it has changed.
Result<UniqueFd> open_folder_of(const std::filesystem::path& path);

/// XXH3, 64 bits.
std::uint64_t checksum(ConstBytes bytes) noexcept;

}  // namespace ramferry::checkpoint
