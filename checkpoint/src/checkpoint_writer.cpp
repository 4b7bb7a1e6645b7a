// SPDX-License-Identifier: MIT
#include "checkpoint_writer.hpp"

#include "file_io.hpp"
#include "format.hpp"

#include <ramferry/partial_file.hpp>

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

Result<> PartialFile::sync() {
  if (::fsync(fd_.get()) != 0) return fail_errno(errno, "making " + name() + " durable");
  return {};
}

Result<> PartialFile::publish() {
  if (std::rename(partial_.c_str(), path_.c_str()) != 0)
    return fail_errno(errno, "renaming " + name() + " to " + path_.string());
  fd_.reset();
  return sync_folder_of(path_);
}

Result<> PartialFile::publish_as(const std::filesystem::path& path) {
  // A link does not replace what is there, unlike a rename.
  if (::link(partial_.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "renaming " + name() + " to " + path.string());
  path_ = path;
  ::unlink(partial_.c_str());
  fd_.reset();
  return sync_folder_of(path_);
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
    return fail_errno(errno, "giving " + file_.name() + " its size");
  // The head last: a file without it is no checkpoint.
  const auto first = format::encode(outline);
  RAMFERRY_TRY(write_at(file_.fd(), 0, ConstBytes(first), file_.name()));
  return file_.sync();
}

}  // namespace ramferry::checkpoint
