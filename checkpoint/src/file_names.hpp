// SPDX-License-Identifier: MIT
// The names of files that machines are kept in, above all in a folder for many. Any thread; other programs
// may use the same folder.
#pragma once

#include <ramferry/error.hpp>

#include <ctime>
#include <filesystem>
#include <string>

namespace ramferry::checkpoint {

/// Where a machine whose name is not known yet is written to: hidden, and nobody else's.
std::filesystem::path working_path_in(const std::filesystem::path& folder);
/// FOLDER/MACHINE-TIME, of a name that comes from elsewhere.
std::filesystem::path stem_in(const std::filesystem::path& folder, const std::string& machine,
                              std::time_t when);
/// Renames to the first of STEMENDING, STEM-2ENDING, … that is free, and tells which; replaces nothing. The
/// name is not durable yet.
Result<std::filesystem::path> rename_to_free(const std::filesystem::path& from,
                                             const std::filesystem::path& stem, const std::string& ending);

}  // namespace ramferry::checkpoint
