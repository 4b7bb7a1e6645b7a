// SPDX-License-Identifier: MIT
#include "vm/disk.hpp"

#include "vm/random.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

namespace ramferry::vm {
namespace {

constexpr std::uint64_t kWriteBytes = 4096;

struct OpenFile {
  UniqueFd fd;
  std::uint64_t bytes = 0;
};

Result<OpenFile> open_file(const std::string& path, int flags) {
  OpenFile file{UniqueFd(::open(path.c_str(), flags | O_CLOEXEC)), 0};
  if (!file.fd)
    return fail_errno(errno, "opening the disk image " + path, "make it, e.g. by truncate -s 64M");
  struct stat status {};
  if (::fstat(file.fd.get(), &status) != 0) return fail_errno(errno, "looking at the disk image " + path);
  file.bytes = static_cast<std::uint64_t>(status.st_size);
  return file;
}

Result<> read_all(const UniqueFd& fd, const std::string& path, std::uint64_t offset, Bytes into) {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0) return fail_errno(errno, "reading the disk image " + path);
    if (got == 0) return fail(errc::io, "reading the disk image " + path + ": it became shorter");
    into = into.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Disk>> Disk::open(const DiskSpec& spec) {
  RAMFERRY_TRY_ASSIGN(OpenFile image, open_file(spec.image, O_RDWR));
  if (image.bytes == 0)
    return fail(errc::invalid_argument, "using the empty file " + spec.image + " as a disk");
  OpenFile base;
  if (!spec.base.empty()) {
    RAMFERRY_TRY_ASSIGN(base, open_file(spec.base, O_RDONLY));
    if (base.bytes != image.bytes)
      return fail(errc::invalid_argument, "using " + spec.base + " as the base of " + spec.image,
                  "both must have the same size");
  }
  return std::unique_ptr<Disk>(new Disk(spec, std::move(image.fd), std::move(base.fd), image.bytes));
}

Disk::Disk(DiskSpec spec, UniqueFd image, UniqueFd base, std::uint64_t bytes)
    : spec_(std::move(spec)),
      image_(std::move(image)),
      base_(std::move(base)),
      bytes_(bytes),
      marks_((bytes + kDiskChunk - 1) / kDiskChunk) {
  if (spec_.bytes_per_second != 0) guest_ = std::thread([this] { run(); });
}

Disk::~Disk() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (guest_.joinable()) guest_.join();
}

void Disk::resume() {
  const std::lock_guard lock(mutex_);
  paused_ = false;
  changed_.notify_all();
}

void Disk::pause() {
  std::unique_lock lock(mutex_);
  paused_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !writing_; });
}

std::uint64_t Disk::chunk_bytes(std::uint64_t chunk) const noexcept {
  return std::min(kDiskChunk, bytes_ - chunk * kDiskChunk);
}

Result<> Disk::read(std::uint64_t offset, Bytes into) const {
  return read_all(image_, spec_.image, offset, into);
}

Result<> Disk::read_base(std::uint64_t offset, Bytes into) const {
  return read_all(base_, spec_.base, offset, into);
}

Result<> Disk::write(std::uint64_t offset, ConstBytes bytes) {
  const std::uint64_t first = offset / kDiskChunk;
  const std::uint64_t last = (offset + bytes.size() - 1) / kDiskChunk;
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(image_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0) return fail_errno(errno, "writing the disk image " + spec_.image);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
  for (std::uint64_t chunk = first; chunk <= last; ++chunk) marks_[chunk] = true;
  return {};
}

void Disk::mark_all() noexcept {
  for (auto& mark : marks_) mark = true;
}

bool Disk::take_mark(std::uint64_t chunk) noexcept {
  return marks_[chunk].exchange(false);
}

std::uint64_t Disk::marked() const noexcept {
  return static_cast<std::uint64_t>(
      std::count_if(marks_.begin(), marks_.end(), [](const auto& mark) { return mark.load(); }));
}

Result<std::uint64_t> Disk::base_hash() const {
  std::uint64_t hash = 0;
  std::vector<std::byte> buffer(kDiskChunk);
  for (std::uint64_t chunk = 0; chunk < chunks(); ++chunk) {
    const Bytes part = Bytes(buffer).first(chunk_bytes(chunk));
    RAMFERRY_TRY(read_base(chunk * kDiskChunk, part));
    hash = XXH3_64bits_withSeed(part.data(), part.size(), hash);
  }
  return hash;
}

Result<> Disk::reopen() {
  RAMFERRY_TRY_ASSIGN(OpenFile image, open_file(spec_.image, O_RDWR));
  if (image.bytes != bytes_)
    return fail(errc::invalid_argument,
                "using the disk image " + spec_.image + " again: it has another size");
  image_ = std::move(image.fd);
  return {};
}

void Disk::run() {
  const auto step = std::chrono::nanoseconds(std::chrono::seconds(1)) *
                    static_cast<std::int64_t>(kWriteBytes) /
                    static_cast<std::int64_t>(spec_.bytes_per_second);
  auto due = std::chrono::steady_clock::now();
  for (std::uint64_t turn = 0;; ++turn) {
    {
      std::unique_lock lock(mutex_);
      writing_ = false;
      changed_.notify_all();
      changed_.wait(lock, [this] { return stopping_ || !paused_; });
      changed_.wait_until(lock, due, [this] { return stopping_ || paused_; });
      if (stopping_) return;
      if (paused_) continue;
      writing_ = true;
    }
    write_somewhere(turn);
    due = std::max(due + step, std::chrono::steady_clock::now());
  }
}

void Disk::write_somewhere(std::uint64_t turn) {
  Random random(spec_.seed * 1'000'003 + turn);
  std::array<std::byte, kWriteBytes> content{};
  if (turn % 8 != 0) random.fill(content);
  const std::uint64_t places = std::max<std::uint64_t>(1, bytes_ / kWriteBytes);
  const std::uint64_t offset = random.below(places) * kWriteBytes;
  // A guest's write that fails is the guest's affair.
  (void)write(offset, ConstBytes(content).first(std::min(kWriteBytes, bytes_ - offset)));
}

}  // namespace ramferry::vm
