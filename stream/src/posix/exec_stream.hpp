// SPDX-License-Identifier: MIT
// exec: as a byte stream: what is sent is a command's input, or what it prints is received.
#pragma once

#include <ramferry/byte_stream.hpp>

#include <memory>
#include <string>

namespace ramferry::posix {

/// send() writes to the command's standard input; finish() closes that and waits for exit status 0.
Result<std::unique_ptr<ByteStream>> write_to_command(const std::string& command);
/// receive() reads the command's standard output; its end is reported only if the exit status is 0.
Result<std::unique_ptr<ByteStream>> read_from_command(const std::string& command);

}  // namespace ramferry::posix
