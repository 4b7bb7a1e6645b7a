// SPDX-License-Identifier: MIT
// What is mapped where in this process, as /proc/self/maps tells.
#pragma once

#include <ramferry/bytes.hpp>

#include <cstdint>
#include <vector>

namespace ramferry::migration {

struct Mapping {
  std::uint64_t begin = 0, end = 0;  ///< addresses
  std::uint64_t offset = 0;          ///< in the file
  std::uint64_t inode = 0;
  bool shared = false;
  bool anonymous = false;  ///< begins as zeros, and no file shows it
};

/// The mappings that together cover `memory`, lowest first; none if there is a gap or the kernel does not
/// tell.
std::vector<Mapping> mappings_of(ConstBytes memory);

/// Whether every page that was written is in this process's page tables, swapped out or not. False also if
/// the kernel does not tell.
bool is_private(ConstBytes memory);
/// Whether, moreover, every page that was not written is zero.
bool is_private_anonymous(ConstBytes memory);

}  // namespace ramferry::migration
