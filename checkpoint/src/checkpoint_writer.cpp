// SPDX-License-Identifier: MIT
#include "checkpoint_writer.hpp"

#include "file_io.hpp"
#include "file_names.hpp"
#include "format.hpp"

#include <ramferry/partial_file.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace ramferry::checkpoint {
namespace {

/// Names, numbers and the like: all of the metadata that is neither index nor state.
constexpr std::uint64_t kSmallParts = 1ULL << 20;

}  // namespace

Result<PartialFile> PartialFile::create(const std::filesystem::path& path) {
  std::filesystem::path partial = path;
  partial += ".partial";
  RAMFERRY_TRY_ASSIGN(UniqueFd fd, open_partial(partial.string()));
  return PartialFile(path, std::move(partial), std::move(fd));
}

PartialFile::~PartialFile() {
  if (fd_) ::unlink(partial_.c_str());
}

int PartialFile::timed_sync(int fd) noexcept {
  const auto begun = std::chrono::steady_clock::now();
  const int failed = ::fsync(fd) == 0 ? 0 : errno;
  syncing_ += std::chrono::steady_clock::now() - begun;
  return failed;
}

Result<> PartialFile::sync() {
  if (const int failed = timed_sync(fd_.get()); failed != 0)
    return fail_errno(failed, "making " + name() + " durable",
                      "look for errors of that disk with 'dmesg', and save to another one");
  return {};
}

/// `rename` takes it to a name, which is path_ then.
template <class Rename>
Result<> PartialFile::rename_durably(Rename rename) {
  // What may not be synced is found out while an older file is still there.
  auto folder = open_folder_of(path_);
  if (!folder) return stranded(std::move(folder).error());
  if (Result<> renamed = rename(); !renamed) return stranded(std::move(renamed).error());
  fd_.reset();
  if (const int failed = timed_sync(folder->get()); failed != 0)
    return fail_errno(failed, "making the name of " + path_.string() +
                                  " durable; the file is complete there, until a crash of this machine");
  return {};
}

Result<> PartialFile::publish() {
  return rename_durably([this]() -> Result<> {
    if (std::rename(partial_.c_str(), path_.c_str()) == 0) return {};
    return fail_errno(errno, "renaming " + name() + " to " + path_.string());
  });
}

Result<> PartialFile::publish_free(const std::filesystem::path& stem, const std::string& ending) {
  path_ = stem;
  path_ += ending;
  return rename_durably([&]() -> Result<> {
    RAMFERRY_TRY_ASSIGN(path_, rename_to_free(partial_, stem, ending));
    return {};
  });
}

/// It is complete and could not get its name: it gets another one that people see.
Failure PartialFile::stranded(Error why) {
  if (auto moved = rename_to_free(partial_, path_, ".unpublished")) {
    path_ = *moved;
  } else {
    path_ = partial_;
    ::fchmod(fd_.get(), S_IRUSR);  // nobody takes it for a rest
  }
  fd_.reset();
  why.doing += "; the machine is complete in " + path_.string();
  return Failure(std::move(why));
}

Result<> CheckpointWriter::make_durable(std::uint64_t state_bytes) {
  RAMFERRY_TRY(pages_.reserve(kSmallParts + state_bytes));
  return file_.sync();
}

Result<> CheckpointWriter::seal(CheckpointHead head) {
  RAMFERRY_TRY(pages_.settle());
  head.blocks = pages_.blocks();
  std::vector<std::byte> metadata;
  WireWriter out(metadata);
  format::append_head(out, head);
  pages_.append_index(out);

  format::Outline outline;
  outline.slots = pages_.pages();
  outline.metadata_bytes = metadata.size();
  outline.metadata_sum = checksum(metadata);
  RAMFERRY_TRY(write_at(file_.fd(), outline.metadata_at(), metadata, file_.name()));
  // This also gives back the room that was taken and not used.
  if (::ftruncate(file_.fd(), static_cast<off_t>(outline.metadata_at() + metadata.size())) != 0)
    return fail_errno(errno, "giving " + file_.name() + " its size", "save to another disk");
  // The head last: a file without it is no checkpoint.
  const auto first = format::encode(outline);
  RAMFERRY_TRY(write_at(file_.fd(), 0, ConstBytes(first), file_.name()));
  return file_.sync();
}

}  // namespace ramferry::checkpoint
