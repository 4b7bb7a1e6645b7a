// SPDX-License-Identifier: MIT
#include "pagemap.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace ramferry::migration {
namespace {

constexpr const char* kPath = "/proc/self/pagemap";
constexpr std::size_t kRegions = 4096;  // a call's worth: 96 KiB

std::uint64_t address_of(Bytes memory) noexcept {
  return reinterpret_cast<std::uintptr_t>(
      memory.data());  // NOLINT(cppcoreguidelines-pro-type-reinterpret-cast)
}

Result<UniqueFd> open_pagemap() {
  UniqueFd fd(::open(kPath, O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, std::string("opening ") + kPath, "mount /proc");
  return fd;
}

kernel::PageScanArguments arguments_for(const PageScanner::Query& query) noexcept {
  kernel::PageScanArguments arguments{};
  arguments.size = sizeof arguments;
  arguments.category_inverted = query.none;
  arguments.category_mask = query.all | query.none;
  arguments.category_anyof_mask = query.any;
  return arguments;
}

}  // namespace

PageScanner::PageScanner(UniqueFd fd) : fd_(std::move(fd)), regions_(kRegions) {}

Result<PageScanner> PageScanner::open() {
  RAMFERRY_TRY_ASSIGN(UniqueFd fd, open_pagemap());
  kernel::PageScanArguments nothing{};
  nothing.size = sizeof nothing;
  if (ioctl(fd.get(), kernel::kPagemapScan, &nothing) < 0)
    return fail(errc::unsupported, "asking for PAGEMAP_SCAN", "it needs Linux 6.7");
  return PageScanner(std::move(fd));
}

Result<> PageScanner::find(Bytes memory, const Query& query, const FoundPages& found) {
  return walk(memory, arguments_for(query), found);
}

Result<> PageScanner::find_and_protect(Bytes memory, const Query& query, const FoundPages& found) {
  kernel::PageScanArguments arguments = arguments_for(query);
  arguments.flags = kernel::kProtectMatching | kernel::kCheckAsync;
  return walk(memory, arguments, found);
}

Result<> PageScanner::walk(Bytes memory, kernel::PageScanArguments arguments, const FoundPages& found) {
  const std::uint64_t start = address_of(memory);
  arguments.end = start + memory.size();
  arguments.return_mask =
      (arguments.category_mask & ~arguments.category_inverted) | arguments.category_anyof_mask;
  arguments.vec = reinterpret_cast<std::uintptr_t>(regions_.data());  // NOLINT
  arguments.vec_len = regions_.size();
  for (arguments.start = start; arguments.start < arguments.end; arguments.start = arguments.walk_end) {
    const int count = ioctl(fd_.get(), kernel::kPagemapScan, &arguments);
    if (count < 0) return fail_errno(errno, "scanning page tables", "was guest memory remapped?");
    for (int i = 0; i < count; ++i) {
      const kernel::PageRegion& region = regions_[static_cast<std::size_t>(i)];
      found(memory.subspan(region.start - start, region.end - region.start));
    }
  }
  return {};
}

Result<> find_populated(Bytes memory, const FoundPages& found) {
  constexpr std::uint64_t kPopulated =
      (std::uint64_t{1} << 63U) | (std::uint64_t{1} << 62U);  // present, swapped
  RAMFERRY_TRY_ASSIGN(const UniqueFd fd, open_pagemap());
  const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t pages = memory.size() / page_bytes;
  std::vector<std::uint64_t> entries(std::min<std::uint64_t>(pages, 65536));
  for (std::uint64_t page = 0; page < pages;) {
    const std::uint64_t count = std::min<std::uint64_t>(entries.size(), pages - page);
    const std::uint64_t at = (address_of(memory) / page_bytes + page) * sizeof(entries[0]);
    const ssize_t got = pread(fd.get(), entries.data(), count * sizeof(entries[0]), static_cast<off_t>(at));
    if (got <= 0) return fail_errno(got < 0 ? errno : EIO, std::string("reading ") + kPath);
    const std::uint64_t read = static_cast<std::uint64_t>(got) / sizeof(entries[0]);
    for (std::uint64_t i = 0; i < read; ++i)
      if ((entries[i] & kPopulated) != 0) found(memory.subspan((page + i) * page_bytes, page_bytes));
    page += read;
  }
  return {};
}

}  // namespace ramferry::migration
