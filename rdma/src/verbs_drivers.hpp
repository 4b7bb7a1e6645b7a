// SPDX-License-Identifier: MIT
// Loads the drivers of this machine's RDMA devices, and no others.
//
// libibverbs looks for a device's driver among those that are loaded, and when none fits it loads all that
// are installed: some fifteen libraries with theirs, for the one that is needed. What is loaded here, it
// finds.
//
// Only a short cut: what cannot be told by a device's name or is not where drivers usually are is left to
// libibverbs.
#pragma once

#include <ramferry/system_files.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace ramferry::rdma {

/// The drivers in `folder`, by file name, that this machine's devices are known to need.
std::vector<std::string> needed_drivers(const SystemFiles& files, std::string_view folder);

/// Does its work once. Any thread; call it before the first list of devices is asked for. RDMAV_DRIVERS and
/// IBV_DRIVERS in the environment overrule it.
void load_needed_drivers();

}  // namespace ramferry::rdma
