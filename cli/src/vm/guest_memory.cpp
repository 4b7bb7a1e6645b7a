// SPDX-License-Identifier: MIT
#include "vm/guest_memory.hpp"

#include <ramferry/endpoint.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace ramferry::vm {
namespace {

// Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped.
constexpr std::uint64_t kPagemapHeld = (std::uint64_t{1} << 63) | (std::uint64_t{1} << 62);

}  // namespace

Result<GuestMemory::Mapping> GuestMemory::map(const BlockSpec& spec, migration::Backing::Kind backing) {
  Mapping mapping;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (backing == migration::Backing::Kind::shared_fd) {
    mapping.fd.reset(memfd_create(spec.name.c_str(), MFD_CLOEXEC));
    if (!mapping.fd) return fail_errno(errno, "making a memfd for RAM block '" + spec.name + "'");
    if (ftruncate(mapping.fd.get(), static_cast<off_t>(spec.bytes)) != 0)
      return fail_errno(errno, "giving RAM block '" + spec.name + "' " + format_size(spec.bytes));
    flags = MAP_SHARED | MAP_NORESERVE;
  }
  void* at = mmap(nullptr, spec.bytes, PROT_READ | PROT_WRITE, flags, mapping.fd.get(), 0);
  if (at == MAP_FAILED)
    return fail_errno(errno, "mapping " + format_size(spec.bytes) + " for RAM block '" + spec.name + "'",
                      "give the VM less --ram");
  madvise(at, spec.bytes, MADV_NOHUGEPAGE);  // fails only on kernels that have none
  if (madvise(at, spec.bytes, MADV_DONTFORK) != 0)
    return fail_errno(errno, "keeping RAM block '" + spec.name + "' out of child processes");
  mapping.memory = Bytes(static_cast<std::byte*>(at), spec.bytes);
  return mapping;
}

Result<GuestMemory> GuestMemory::make(const std::vector<BlockSpec>& blocks,
                                      migration::Backing::Kind backing) {
  GuestMemory memory{{}};
  std::vector<migration::RamBlock> layout;
  for (const BlockSpec& spec : blocks) {
    if (spec.bytes == 0 || spec.bytes % kPageBytes != 0)
      return fail(errc::invalid_argument,
                  "making RAM block '" + spec.name + "' of " + std::to_string(spec.bytes) + " bytes",
                  "its size must be a multiple of 4 KiB, and not zero");
    RAMFERRY_TRY_ASSIGN(Mapping mapping, map(spec, backing));
    layout.push_back({.name = spec.name,
                      .host = mapping.memory,
                      .backing = {.kind = backing, .fd = mapping.fd.get()},
                      .page_bytes = kPageBytes});
    memory.mappings_.push_back(std::move(mapping));
  }
  RAMFERRY_TRY_ASSIGN(memory.layout_, migration::RamLayout::make(std::move(layout)));
  memory.pagemap_.reset(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  return memory;
}

Result<> GuestMemory::prefault() {
  for (const Mapping& mapping : mappings_)
    if (madvise(mapping.memory.data(), mapping.memory.size(), MADV_POPULATE_WRITE) != 0)
      return fail_errno(errno,
                        "allocating " + format_size(mapping.memory.size()) + " of guest memory at once",
                        "it needs Linux 5.14 and that much free memory; leave --prefault away");
  return {};
}

GuestMemory::~GuestMemory() {
  for (const Mapping& mapping : mappings_) munmap(mapping.memory.data(), mapping.memory.size());
}

std::vector<bool> GuestMemory::touched(std::uint32_t block, std::uint64_t first, std::uint64_t count) const {
  std::vector<std::uint64_t> entries(count);
  const auto page = reinterpret_cast<std::uintptr_t>(layout_[block].host.data()) / kPageBytes + first;
  const std::size_t wanted = count * sizeof(std::uint64_t);
  const ssize_t got =
      pread(pagemap_.get(), entries.data(), wanted, static_cast<off_t>(page * sizeof(std::uint64_t)));
  if (got != static_cast<ssize_t>(wanted)) return std::vector<bool>(count, true);
  std::vector<bool> result(count);
  for (std::uint64_t i = 0; i < count; ++i) result[i] = (entries[i] & kPagemapHeld) != 0;
  return result;
}

}  // namespace ramferry::vm
