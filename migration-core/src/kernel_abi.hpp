// SPDX-License-Identifier: MIT
// The parts of the kernel's documented interface that the C library's headers may be too old for:
// userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace ramferry::migration::kernel {

// Flags and requests of userfaultfd.
inline constexpr int kUserModeOnly = 1;                               // Linux 5.11: also without privilege
inline const unsigned long kNewFromDevice = _IO(0xAA, 0x00);          // NOLINT: 6.1, on /dev/userfaultfd
inline constexpr std::uint64_t kWriteProtect = 1U << 0U;              // Linux 5.7
inline constexpr std::uint64_t kWriteProtectShared = 1U << 12U;       // 5.19: hugetlbfs, memfd and tmpfs
inline constexpr std::uint64_t kWriteProtectUnpopulated = 1U << 13U;  // 6.4: anonymous pages never touched
inline constexpr std::uint64_t kWriteProtectAsync = 1U << 15U;  // 6.7: the kernel resolves the faults itself

// PAGEMAP_SCAN, an ioctl of /proc/PID/pagemap, Linux 6.7.
enum PageIs : std::uint64_t {
  kPageIsWritten = 1U << 1U,  ///< not write-protected by userfaultfd
  kPageIsPresent = 1U << 3U,
  kPageIsSwapped = 1U << 4U,
  kPageIsZeroPage = 1U << 5U,  ///< the kernel's shared page of zeros
};

struct PageRegion {
  std::uint64_t start, end, categories;
};

struct PageScanArguments {
  std::uint64_t size, flags;
  std::uint64_t start, end, walk_end;  ///< walk_end: how far it came
  std::uint64_t vec, vec_len;          ///< PageRegion array
  std::uint64_t max_pages;
  std::uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

inline constexpr std::uint64_t kProtectMatching = 1U << 0U;  // write-protect what matches, in the same step
inline constexpr std::uint64_t kCheckAsync = 1U << 1U;  // fail unless the faults are resolved by the kernel
inline const unsigned long kPagemapScan = _IOWR('f', 16, PageScanArguments);  // NOLINT

static_assert(sizeof(PageRegion) == 24 && sizeof(PageScanArguments) == 96);

}  // namespace ramferry::migration::kernel
