// SPDX-License-Identifier: MIT
// Where the demonstration's two VMs meet.
#pragma once

#include <ramferry/error.hpp>

#include <string>

namespace ramferry::cli {

/// A URI to listen at: a free port, or a socket in `directory`. `host` may be empty: a fitting one is found.
Result<std::string> demo_address(const std::string& transport, const std::string& host,
                                 const std::string& directory);

}  // namespace ramferry::cli
