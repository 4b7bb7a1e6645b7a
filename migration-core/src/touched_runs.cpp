// SPDX-License-Identifier: MIT
// Which pages of a block were ever touched, asked of the kernel without looking at the memory.
//
// Private memory: what is in this process's page tables or swapped out; the kernel's shared page of zeros,
// mapped by a read, does not count. Shared memory: what its file holds, whoever wrote it; page tables would
// not tell.
#include "touched_runs.hpp"

#include "host_pages.hpp"
#include "memory_map.hpp"
#include "pagemap.hpp"

#include <ramferry/migration/dirty_tracker.hpp>
#include <ramferry/migration/zero_page.hpp>
#include <ramferry/unique_fd.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace ramferry::migration {
namespace {

class RunList {
 public:
  RunList(const RamLayout& layout, const PageRun& within) : layout_(layout), within_(within) {}

  /// Ranges come lowest first, but may share a page.
  void add(Bytes memory) {
    const PageRun run = pages_of(layout_, within_.block, memory);
    const std::uint64_t first = std::max(run.first, end_);
    const std::uint64_t end = std::min(run.first + run.count, within_.first + within_.count);
    if (first >= end) return;
    append_run(runs_, {within_.block, first, end - first});
    end_ = end;
  }
  std::vector<PageRun> take() { return std::move(runs_); }

 private:
  const RamLayout& layout_;
  const PageRun within_;
  std::uint64_t end_ = within_.first;  // no page before it is added any more
  std::vector<PageRun> runs_;
};

std::uint64_t address_of(Bytes memory) noexcept {
  return reinterpret_cast<std::uintptr_t>(
      memory.data());  // NOLINT(cppcoreguidelines-pro-type-reinterpret-cast)
}

/// Whether `memory` of the block is mapped shared, and shows the file at the offset that the block says.
bool shows_its_file(const RamBlock& block, Bytes memory) {
  struct stat file {};
  if (fstat(block.backing.fd, &file) != 0) return false;
  const std::vector<Mapping> mappings = mappings_of(memory);
  return !mappings.empty() && std::all_of(mappings.begin(), mappings.end(), [&](const Mapping& mapping) {
    return mapping.shared && mapping.inode == file.st_ino &&
           mapping.offset + address_of(block.host) == block.backing.offset + mapping.begin;
  });
}

Result<> find_touched(Bytes memory, bool may_scan, const FoundPages& found) {
  auto scanner = PageScanner::open();
  if (!scanner || !may_scan) return find_populated(memory, found);
  return scanner->find(
      memory,
      {.all = 0, .none = kernel::kPageIsZeroPage, .any = kernel::kPageIsPresent | kernel::kPageIsSwapped},
      found);
}

/// By SEEK_DATA and SEEK_HOLE.
Result<> find_data(const RamBlock& block, Bytes memory, const FoundPages& found) {
  // A description of our own, because seeking moves the one that the VMM may be using.
  const UniqueFd file(
      open(("/proc/self/fd/" + std::to_string(block.backing.fd)).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening the file of RAM block '" + block.name + "' again");
  const std::uint64_t begin = block.backing.offset + (address_of(memory) - address_of(block.host));
  const std::uint64_t end = begin + memory.size();
  for (std::uint64_t at = begin; at < end;) {
    const off_t data = lseek(file.get(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};  // nothing up to the end
    if (data < 0) return fail_errno(errno, "looking for data of RAM block '" + block.name + "'");
    const off_t hole = lseek(file.get(), data, SEEK_HOLE);
    if (hole < 0) return fail_errno(errno, "looking for holes of RAM block '" + block.name + "'");
    const std::uint64_t from = std::min(static_cast<std::uint64_t>(data), end);
    at = std::min(static_cast<std::uint64_t>(hole), end);
    if (from < at) found(memory.subspan(from - begin, at - from));
  }
  return {};
}

}  // namespace

std::vector<PageRun> touched_runs_with(const RamLayout& layout, const PageRun& within, bool may_scan) {
  if (within.count == 0) return {};
  const RamBlock& block = layout[within.block];
  const Bytes memory = host_pages(layout, within);
  RunList runs(layout, within);
  const FoundPages add = [&](Bytes found) { runs.add(found); };
  bool told = false;
  if (block.backing.kind == Backing::Kind::shared_fd)
    told = shows_its_file(block, memory) && find_data(block, memory, add);
  else
    told = is_private_anonymous(memory) && find_touched(memory, may_scan, add);
  return told ? runs.take() : std::vector<PageRun>{within};
}

Result<std::vector<PageRun>> touched_runs(const RamLayout& layout, const PageRun& within) {
  return touched_runs_with(layout, within, true);
}

}  // namespace ramferry::migration
