// SPDX-License-Identifier: MIT
// This process's page tables, as /proc/self/pagemap tells about them.
#pragma once

#include "kernel_abi.hpp"

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <cstdint>
#include <functional>
#include <vector>

namespace ramferry::migration {

/// Given each range that matches, lowest first; neighbours may come in pieces.
using FoundPages = std::function<void(Bytes)>;

/// PAGEMAP_SCAN. One thread.
class PageScanner {
 public:
  /// A page matches if it has all of the categories in `all` and none in `none`, and one in `any` unless that
  /// is 0.
  struct Query {
    std::uint64_t all = 0, none = 0, any = 0;
  };
  /// errc::unsupported before Linux 6.7.
  static Result<PageScanner> open();

  Result<> find(Bytes memory, const Query& query, const FoundPages& found);
  /// Write-protects what it finds, each page in one step with looking at it. The memory must be watched by a
  /// userfaultfd whose faults the kernel resolves.
  Result<> find_and_protect(Bytes memory, const Query& query, const FoundPages& found);

 private:
  explicit PageScanner(UniqueFd fd);
  Result<> walk(Bytes memory, kernel::PageScanArguments arguments, const FoundPages& found);

  UniqueFd fd_;
  std::vector<kernel::PageRegion> regions_;
};

/// Present or swapped-out pages by reading /proc/self/pagemap, on kernels without PAGEMAP_SCAN.
Result<> find_populated(Bytes memory, const FoundPages& found);

}  // namespace ramferry::migration
