// SPDX-License-Identifier: MIT
#include "whole_memory.hpp"

#include <ramferry/endpoint.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace ramferry::rdma {
namespace {

constexpr std::size_t kPopulated = 16 << 20;
constexpr unsigned kMostPopulators = 8;
constexpr const char* kLessPinning = "switch the source's capability rdma-pin-all off";

std::uint64_t available_memory(const SystemFiles& files) {
  const auto words = words_of(files.field("/proc/meminfo", "MemAvailable").value_or(""));
  return words.empty() ? kUnlimited : std::strtoull(words[0].c_str(), nullptr, 10) * 1024;
}

}  // namespace

Result<> check_whole_memory(const SystemFiles& files, const DeviceFacts& device,
                            std::span<const std::uint64_t> block_bytes, std::uint64_t pinned) {
  std::uint64_t total = 0;
  for (const std::uint64_t bytes : block_bytes) {
    total += bytes;
    if (bytes > device.max_region_bytes)
      return fail(errc::unsupported,
                  "registering a RAM block of " + format_size(bytes) + ": " + device.name + " takes " +
                      format_size(device.max_region_bytes) + " at once",
                  kLessPinning);
  }
  const std::string doing = "registering all of " + format_size(total);
  if (device.lockable_bytes != ~0ULL &&
      total > device.lockable_bytes - std::min(device.lockable_bytes, pinned))
    return fail(errc::memory_lock_limit, doing + ": RLIMIT_MEMLOCK is " + format_size(device.lockable_bytes),
                std::string("raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity), or ") + kLessPinning);
  if (const std::uint64_t free = available_memory(files); total > free)
    return fail(errc::memory_lock_limit, doing + ": only " + format_size(free) + " are available",
                kLessPinning);
  if (const auto limit = group_memory_limit(files); limit && total > limit->bytes)
    return fail(
        errc::memory_lock_limit,
        doing + ": the control group's limit is " + format_size(limit->bytes) + " (" + limit->file + ")",
        std::string("raise it (MemoryMax= of the unit), or ") + kLessPinning);
  return {};
}

void populate(Bytes memory) {
#ifdef MADV_POPULATE_WRITE
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t at = next.fetch_add(kPopulated); at < memory.size(); at = next.fetch_add(kPopulated)) {
      const Bytes piece = memory.subspan(at, std::min(kPopulated, memory.size() - at));
      if (::madvise(piece.data(), piece.size(), MADV_POPULATE_WRITE) != 0) return;
    }
  };
  std::vector<std::thread> others;
  const unsigned wanted = std::clamp(std::thread::hardware_concurrency(), 1U, kMostPopulators);
  // Those that there are will do.
  try {
    for (unsigned i = 1; i < wanted && i * kPopulated < memory.size(); ++i) others.emplace_back(work);
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
  work();
  for (std::thread& each : others) each.join();
#else
  static_cast<void>(memory);
#endif
}

}  // namespace ramferry::rdma
