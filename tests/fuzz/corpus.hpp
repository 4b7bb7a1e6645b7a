// SPDX-License-Identifier: MIT
// A corpus as one text file: one input a line, so that a change of it can be read.
//
// Printable characters stand for themselves, other bytes are \xNN, a backslash is \\, a brace \{ and a space
// \s. {N} repeats the byte before it, N in all. Empty lines, and lines that begin with '#', say nothing.
#pragma once

#include "fuzz/replay.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace ramferry::fuzz {

std::string to_line(ConstBytes input);
/// Nothing if the line is not as described.
std::optional<Input> from_line(std::string_view line);

/// The inputs of a file; none if it does not exist. Ends the program if a line makes no sense.
std::vector<Input> read_corpus(const std::string& path);

}  // namespace ramferry::fuzz
