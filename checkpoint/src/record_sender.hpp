// SPDX-License-Identifier: MIT
// A checkpoint's RAM as QEMU's records: one thread reads the file ahead and makes them, the caller's sends
// them.
#pragma once

#include <ramferry/byte_stream.hpp>
#include <ramferry/checkpoint/checkpoint_file.hpp>

#include <atomic>
#include <cstdint>

namespace ramferry::checkpoint {

/// Everything from behind the RAM section's START to the end of its END. `done` grows by the guest memory
/// that was sent.
Result<> send_ram_records(const CheckpointFile& file, ByteStream& stream, std::atomic<std::uint64_t>& done);

}  // namespace ramferry::checkpoint
