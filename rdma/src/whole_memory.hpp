// SPDX-License-Identifier: MIT
// Registering all of a machine's memory at once, as a QEMU with rdma-pin-all asks for: whether this machine
// can, and making the pages.
#pragma once

#include "fabric.hpp"

#include <ramferry/system_files.hpp>

#include <cstdint>
#include <span>

namespace ramferry::rdma {

/// Memory that is pinned cannot be taken back from us: better to refuse than to bring this machine down, and
/// before any of it is made. `pinned`: bytes that are already. errc::memory_lock_limit, or errc::unsupported
/// for a block that is too large for the device.
Result<> check_whole_memory(const SystemFiles& files, const DeviceFacts& device,
                            std::span<const std::uint64_t> block_bytes, std::uint64_t pinned);

/// Has the kernel make all its pages, on several processors: registering would, on one. Where it cannot, it
/// is left to that.
void populate(Bytes memory);

}  // namespace ramferry::rdma
