// SPDX-License-Identifier: MIT
#include "vm/fill.hpp"

#include "vm/page_stamp.hpp"
#include "vm/random.hpp"

#include <ramferry/unique_fd.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace ramferry::vm {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kExtentPages = 512;
constexpr std::uint64_t kZeroEvery = 16;  ///< in text extents of a mixed fill

/// Real content: files one after another, round and round.
class FileReader {
 public:
  FileReader(const std::vector<std::string>& paths, std::size_t start) : paths_(paths), next_(start) {}

  /// Fills `into`; false if no file gives anything.
  bool read(Bytes into) {
    std::size_t opened = 0;
    while (!into.empty()) {
      const ssize_t got = fd_ ? ::read(fd_.get(), into.data(), into.size()) : 0;
      if (got > 0) {
        into = into.subspan(static_cast<std::size_t>(got));
        opened = 0;
        continue;
      }
      if (opened++ > paths_.size()) return false;
      fd_.reset(open(paths_[next_++ % paths_.size()].c_str(), O_RDONLY | O_CLOEXEC));
    }
    return true;
  }

  /// Of the first file alone, as if it were repeated for ever: an image, page by page.
  bool read_at(std::uint64_t offset, Bytes into) {
    if (!image_) image_.reset(open(paths_.front().c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info {};
    if (!image_ || fstat(image_.get(), &info) != 0 || info.st_size == 0) return false;
    while (!into.empty()) {
      const auto at = static_cast<off_t>(offset % static_cast<std::uint64_t>(info.st_size));
      const ssize_t got = pread(image_.get(), into.data(), into.size(), at);
      if (got <= 0) return false;
      into = into.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
    return true;
  }

 private:
  const std::vector<std::string>& paths_;
  UniqueFd image_;
  std::size_t next_;
  UniqueFd fd_;
};

/// Text and programs of this machine, in an order of its own for each seed.
std::vector<std::string> machine_files(std::uint64_t seed) {
  constexpr std::uintmax_t kLeastBytes = 16 << 10;
  constexpr std::size_t kMost = 4000;
  std::vector<std::string> found;
  for (const char* root : {"/usr/share", "/usr/bin"}) {
    std::error_code ignored;
    fs::recursive_directory_iterator walk(root, fs::directory_options::skip_permission_denied, ignored);
    const std::size_t most = found.size() + kMost;
    for (; walk != fs::recursive_directory_iterator{} && found.size() < most; walk.increment(ignored)) {
      if (ignored) break;
      std::error_code file_error;
      if (!walk->is_symlink(file_error) && walk->is_regular_file(file_error) &&
          walk->file_size(file_error) >= kLeastBytes && !file_error)
        found.push_back(walk->path().string());
    }
  }
  std::sort(found.begin(), found.end());
  Random random(seed);
  for (std::size_t i = found.size(); i > 1; --i) std::swap(found[i - 1], found[random.below(i)]);
  return found;
}

/// One thread's share of the work.
class Filler {
 public:
  Filler(const GuestMemory& memory, PageTable& table, const FillSpec& spec, FileReader reader,
         std::uint64_t seed)
      : memory_(memory), table_(table), spec_(spec), reader_(std::move(reader)), random_(seed) {}

  /// The extent with this number among all extents, which are pages [first, end) of `block`.
  bool fill(std::uint64_t number, std::uint32_t block, std::uint64_t first, std::uint64_t end) {
    const FillSpec::Mode mode = spec_.mode == FillSpec::Mode::mixed ? mixed(number) : spec_.mode;
    for (std::uint64_t page = first; page < end; ++page) {
      if (!fill_page(mode, block, page)) return false;
    }
    return true;
  }

 private:
  static FillSpec::Mode mixed(std::uint64_t number) {
    constexpr FillSpec::Mode kTurns[] = {FillSpec::Mode::file, FillSpec::Mode::untouched,
                                         FillSpec::Mode::random};
    return kTurns[number % 3];
  }

  bool fill_page(FillSpec::Mode mode, std::uint32_t block, std::uint64_t page) {
    if (mode == FillSpec::Mode::untouched) return true;
    const Bytes bytes = memory_.page(block, page);
    const bool zero = spec_.mode == FillSpec::Mode::mixed && page % kZeroEvery == 0;
    if (mode == FillSpec::Mode::zero || (mode == FillSpec::Mode::file && zero)) {
      std::memset(bytes.data(), 0, bytes.size());
      table_.set(block, page, {.kind = PageKind::zero, .generation = 1});
      return true;
    }
    const Bytes body = bytes.first(kBodyBytes);
    if (mode == FillSpec::Mode::random) random_.fill(body);
    if (spec_.mode == FillSpec::Mode::mixed && mode == FillSpec::Mode::file && !reader_.read(body))
      return false;
    if (spec_.mode == FillSpec::Mode::file && !reader_.read_at(page * kPageBytes, bytes)) return false;
    if (spec_.mode == FillSpec::Mode::file && is_zero(bytes)) {  // an image's zero pages stay zero
      table_.set(block, page, {.kind = PageKind::zero, .generation = 1});
      return true;
    }
    stamp_page(bytes, place_of(block, page), 1);
    table_.set(block, page, {.kind = PageKind::stamped, .generation = 1});
    return true;
  }

  const GuestMemory& memory_;
  PageTable& table_;
  const FillSpec& spec_;
  FileReader reader_;
  Random random_;
};

struct Extent {
  std::uint32_t block = 0;
  std::uint64_t first = 0, end = 0;
};

std::vector<Extent> extents_of(const PageTable& table) {
  std::vector<Extent> extents;
  for (std::uint32_t block = 0; block < table.blocks(); ++block) {
    for (std::uint64_t first = 0; first < table.pages(block); first += kExtentPages)
      extents.push_back({block, first, std::min(first + kExtentPages, table.pages(block))});
  }
  return extents;
}

Result<std::vector<std::string>> content_files(const FillSpec& spec) {
  if (spec.mode == FillSpec::Mode::mixed && spec.path.empty()) {
    auto files = machine_files(spec.seed);
    if (files.empty())
      return fail(errc::not_found, "looking for files under /usr/share and /usr/bin", "use --fill random");
    return files;
  }
  if (spec.mode != FillSpec::Mode::mixed && spec.mode != FillSpec::Mode::file)
    return std::vector<std::string>{};
  struct stat info {};
  if (stat(spec.path.c_str(), &info) != 0 || access(spec.path.c_str(), R_OK) != 0)
    return fail(errc::invalid_argument,
                "reading '" + spec.path + "' to fill memory with: " + std::generic_category().message(errno),
                "--fill takes untouched, zero, random, mixed, mixed:FILE or a file");
  if (!S_ISREG(info.st_mode) || info.st_size == 0)
    return fail(errc::invalid_argument, "reading '" + spec.path + "' to fill memory with",
                "it must be a file with something in it");
  return std::vector<std::string>{spec.path};
}

}  // namespace

FillSpec parse_fill(std::string_view text) {
  constexpr std::string_view kMixedWith = "mixed:";
  if (text.starts_with(kMixedWith))
    return {.mode = FillSpec::Mode::mixed, .path = std::string(text.substr(kMixedWith.size()))};
  if (text == "untouched") return {.mode = FillSpec::Mode::untouched};
  if (text == "zero") return {.mode = FillSpec::Mode::zero};
  if (text == "random") return {.mode = FillSpec::Mode::random};
  if (text == "mixed") return {.mode = FillSpec::Mode::mixed};
  return {.mode = FillSpec::Mode::file, .path = std::string(text)};
}

Result<> fill_memory(const GuestMemory& memory, PageTable& table, const FillSpec& spec) {
  if (spec.mode == FillSpec::Mode::untouched) return {};
  RAMFERRY_TRY_ASSIGN(const std::vector<std::string> files, content_files(spec));
  const std::vector<Extent> extents = extents_of(table);
  const unsigned workers = std::max(1u, std::thread::hardware_concurrency());
  std::atomic<bool> failed = false;
  std::vector<std::thread> threads;
  for (unsigned worker = 0; worker < workers; ++worker) {
    threads.emplace_back([&, worker] {
      Filler filler(memory, table, spec, FileReader(files, files.size() * worker / workers),
                    spec.seed * 1000 + worker);
      for (std::size_t number = worker; number < extents.size() && !failed; number += workers) {
        const Extent& extent = extents[number];
        if (!filler.fill(number, extent.block, extent.first, extent.end)) failed = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (failed) return fail(errc::io, "reading files to fill memory with", "use --fill random");
  return {};
}

}  // namespace ramferry::vm
