// SPDX-License-Identifier: MIT
// What a device or the kernel refuses, as errors with a next step; and what the kernel tells about both.
//
// Any thread.
#pragma once

#include "fabric.hpp"

#include <ramferry/system_files.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace ramferry::rdma {

/// Registering `bytes` failed with an errno, while `pinned` of this process were pinned.
/// errc::memory_lock_limit if less may work.
Error registering_failed(int error_number, std::uint64_t bytes, std::uint64_t pinned,
                         const DeviceFacts& device);
/// Making a queue or a queue pair failed with an errno; `limit` is what ibv_devinfo calls how many there may
/// be.
Error making_failed(int error_number, std::string doing, const std::string& limit);
/// For an error in opening the connection manager; may be empty.
std::string opening_advice(std::error_code error);

/// Memory of this process that devices hold.
std::uint64_t pinned_bytes(const SystemFiles& files);
/// Its work is done by this machine's processors: by those that post it, or that take in its packets.
bool is_software(const SystemFiles& files, std::string_view device);

}  // namespace ramferry::rdma
