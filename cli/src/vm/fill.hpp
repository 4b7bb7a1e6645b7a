// SPDX-License-Identifier: MIT
// What the reference VM's memory holds before its workload starts.
#pragma once

#include "vm/guest_memory.hpp"
#include "vm/page_table.hpp"

#include <ramferry/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace ramferry::vm {

struct FillSpec {
  enum class Mode : std::uint8_t {
    untouched,  ///< nothing is written
    zero,       ///< every page written, with zeros
    random,     ///< every page stamped, incompressible
    /// By 2 MiB in turn: untouched; text and programs of this machine, or the content of `path` if there is
    /// one, every 16th page zero; random.
    mixed,
    file,  ///< every page stamped, the content of `path` over and over
  };
  Mode mode = Mode::mixed;
  std::string path;
  std::uint64_t seed = 1;
};

/// "untouched", "zero", "random", "mixed", "mixed:" and a file's path, or else a file's path.
FillSpec parse_fill(std::string_view text);

/// Fills blank memory and notes it in the table; on all CPUs.
Result<> fill_memory(const GuestMemory& memory, PageTable& table, const FillSpec& spec);

}  // namespace ramferry::vm
