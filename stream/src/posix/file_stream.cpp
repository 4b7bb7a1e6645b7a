// SPDX-License-Identifier: MIT
#include "posix/file_stream.hpp"

#include "posix/fd_stream.hpp"

#include <ramferry/endpoint.hpp>
#include <ramferry/partial_file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <mutex>
#include <utility>

namespace ramferry::posix {
namespace {

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path();
  return folder.empty() ? "." : folder;
}

/// A full disk gets a hint; other errors stay as they are.
Error with_space_hint(Error error, const std::string& path) {
  if (!error.is(errc::no_space)) return error;
  struct statvfs space {};
  const bool known = ::statvfs(folder_of(path).c_str(), &space) == 0;
  error.advice = "free some space in " + folder_of(path) +
                 (known ? ", which has " + format_size(space.f_bavail * space.f_frsize) + " left," : "") +
                 " or choose another path";
  return error;
}

Result<> with_space_hint(Result<> outcome, const std::string& path) {
  if (outcome) return outcome;
  return Failure(with_space_hint(std::move(outcome).error(), path));
}

class FileWriter final : public ByteStream {
 public:
  FileWriter(UniqueFd partial, std::string path)
      : path_(std::move(path)),
        partial_path_(path_ + ".partial"),
        partial_(std::move(partial), "file:" + path_) {}
  ~FileWriter() override { remove_partial(); }

  Result<> send(ConstBytes bytes) override { return with_space_hint(partial_.send(bytes), path_); }
  Result<std::size_t> receive(Bytes, Deadline) override {
    return fail(errc::unsupported, "reading from file:" + path_ + ", which is being written");
  }
  bool all_or_nothing() const noexcept override { return true; }
  Result<> finish(Deadline deadline) override {
    RAMFERRY_TRY(with_space_hint(partial_.finish(deadline), path_));
    RAMFERRY_TRY(put_in_place());
    return sync_folder();
  }
  void cancel() noexcept override {
    partial_.cancel();
    remove_partial();
  }
  StreamStats stats() const noexcept override { return partial_.stats(); }
  Facts facts() const override { return partial_.facts(); }

 private:
  void remove_partial() noexcept {
    const std::lock_guard lock(mutex_);
    if (std::exchange(unfinished_, false)) ::unlink(partial_path_.c_str());
  }

  Result<> put_in_place() {
    const std::lock_guard lock(mutex_);
    const std::string doing = "renaming " + partial_path_ + " to " + path_;
    if (partial_.cancel_event().is_set()) return fail(errc::cancelled, doing);
    if (!unfinished_) return {};  // finished before
    if (::rename(partial_path_.c_str(), path_.c_str()) != 0) return fail_errno(errno, doing);
    unfinished_ = false;
    return {};
  }

  Result<> sync_folder() const {
    const std::string folder = folder_of(path_), doing = "syncing the folder " + folder;
    const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || (::fsync(fd.get()) != 0 && errno != EINVAL)) return fail_errno(errno, doing);
    return {};
  }

  const std::string path_, partial_path_;
  FdStream partial_;
  std::mutex mutex_;
  bool unfinished_ = true;  ///< guarded by mutex_: the partial file is ours to remove
};

}  // namespace

Result<std::unique_ptr<ByteStream>> write_to_file(const std::string& path) {
  struct stat existing {};
  std::string real = path;
  if (::stat(path.c_str(), &existing) == 0) {
    if (S_ISDIR(existing.st_mode)) return fail_errno(EISDIR, "writing to file:" + path, "add a file name");
    if (!S_ISREG(existing.st_mode)) {
      UniqueFd fd(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
      if (!fd)
        return fail_errno(errno, "opening file:" + path,
                          errno == ENXIO ? "start the reader of this FIFO first" : "");
      return std::make_unique<FdStream>(std::move(fd), "file:" + path);
    }
    std::error_code ignored;
    const auto resolved = std::filesystem::canonical(path, ignored);  // the file behind a link, not the link
    if (!ignored) real = resolved;
  }
  RAMFERRY_TRY_ASSIGN(UniqueFd fd, open_partial(real + ".partial"));
  return std::make_unique<FileWriter>(std::move(fd), real);
}

Result<std::unique_ptr<ByteStream>> read_from_file(const std::string& path) {
  // Not blocking here, where it could not be cancelled: a FIFO's writer is waited for in receive().
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail_errno(errno, "opening file:" + path);
  struct stat what {};
  if (::fstat(fd.get(), &what) == 0 && S_ISDIR(what.st_mode))
    return fail_errno(EISDIR, "reading file:" + path);
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return std::make_unique<FdStream>(std::move(fd), "file:" + path);
}

}  // namespace ramferry::posix
