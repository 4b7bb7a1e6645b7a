// SPDX-License-Identifier: MIT
// file: as a byte stream: a file appears under its name complete and on disk, or not at all.
#pragma once

#include <ramferry/byte_stream.hpp>

#include <memory>
#include <string>

namespace ramferry::posix {

/// Writes `path`.partial; finish() syncs and renames it, anything else removes it. What exists and is no
/// regular file (a device, a FIFO) is written to as it is. errc::in_use if another stream is writing the same
/// file.
Result<std::unique_ptr<ByteStream>> write_to_file(const std::string& path);
Result<std::unique_ptr<ByteStream>> read_from_file(const std::string& path);

}  // namespace ramferry::posix
