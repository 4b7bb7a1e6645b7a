// SPDX-License-Identifier: MIT
// A checkpoint's RAM over the channels of QEMU's multifd: the pages with content there, each channel with a
// thread that reads and sends; the zero pages in the main stream.
#pragma once

#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/stream_bundle.hpp>

#include <atomic>
#include <cstdint>
#include <string>

namespace ramferry::checkpoint {

/// Where the destination waits for its channels.
enum class SyncPlace : std::uint8_t {
  each_part,  ///< at the end of each part of the RAM section: machine types up to 8.0
  marked,     ///< where the stream says so: machine types from 8.1 on
};
/// By the version in the name of the machine type; errc::unsupported if it has none.
Result<SyncPlace> sync_place(const std::string& machine);

/// Everything from the RAM section's START to the end of its END, except what the checkpoint has beside RAM.
/// `done` grows by the guest memory that was sent. On failure the streams are cancelled.
Result<> send_over_channels(const CheckpointFile& file, StreamBundle& streams, SyncPlace place,
                            std::atomic<std::uint64_t>& done);

}  // namespace ramferry::checkpoint
