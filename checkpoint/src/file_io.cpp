// SPDX-License-Identifier: MIT
#include "file_io.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace ramferry::checkpoint {
namespace {

/// Drops the first `done` bytes of `pieces`.
std::span<iovec> after(std::span<iovec> pieces, std::size_t done) noexcept {
  while (!pieces.empty() && done >= pieces.front().iov_len) {
    done -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  if (done != 0) {
    pieces.front().iov_base = static_cast<std::byte*>(pieces.front().iov_base) + done;
    pieces.front().iov_len -= done;
  }
  return pieces;
}

}  // namespace

Result<OpenFile> open_to_read(const std::filesystem::path& path) {
  const std::string doing = "opening " + path.string();
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return fail_errno(errno, doing);
  if (!S_ISREG(status.st_mode)) return fail(errc::invalid_argument, doing, "it must be a plain file");
  return OpenFile{std::move(fd), static_cast<std::uint64_t>(status.st_size)};
}

Result<> read_at(int fd, std::uint64_t offset, std::span<iovec> pieces, const std::string& name) {
  pieces = after(pieces, 0);
  while (!pieces.empty()) {
    const ssize_t got =
        ::preadv(fd, pieces.data(), static_cast<int>(pieces.size()), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading " + name);
    if (got == 0)
      return fail(errc::protocol_mismatch, "reading " + name + ": it ends at byte " + std::to_string(offset));
    offset += static_cast<std::uint64_t>(got);
    pieces = after(pieces, static_cast<std::size_t>(got));
  }
  return {};
}

Result<> read_at(int fd, std::uint64_t offset, Bytes into, const std::string& name) {
  iovec piece = {into.data(), into.size()};
  return read_at(fd, offset, std::span(&piece, 1), name);
}

Result<> write_at(int fd, std::uint64_t offset, std::span<iovec> pieces, const std::string& name) {
  pieces = after(pieces, 0);
  while (!pieces.empty()) {
    const ssize_t put =
        ::pwritev(fd, pieces.data(), static_cast<int>(pieces.size()), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0)
      return fail_errno(errno, "writing " + name,
                        errno == ENOSPC || errno == EDQUOT
                            ? "free space on that disk, or save elsewhere"
                            : "look for errors of that disk with 'dmesg', and save elsewhere");
    offset += static_cast<std::uint64_t>(put);
    pieces = after(pieces, static_cast<std::size_t>(put));
  }
  return {};
}

Result<> write_at(int fd, std::uint64_t offset, ConstBytes from, const std::string& name) {
  iovec piece = {const_cast<std::byte*>(from.data()), from.size()};
  return write_at(fd, offset, std::span(&piece, 1), name);
}

Result<UniqueFd> open_folder_of(const std::filesystem::path& path) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd)
    return fail_errno(errno, "opening the folder of " + path.string(),
                      "let its owner read it, too, or save elsewhere");
  return fd;
}

}  // namespace ramferry::checkpoint
