// SPDX-License-Identifier: MIT
// For tests of the benchmark: a transport that wastes time, so that somebody can be seen to lose.
#pragma once

#include <ramferry/transport.hpp>

#include <chrono>
#include <memory>

namespace ramferry::cli {

/// Like `transport`, but every batch that is placed on a channel that it connects sleeps for `wasted` first.
/// `transport` itself if that is zero.
std::unique_ptr<Transport> slow_down(std::unique_ptr<Transport> transport, std::chrono::microseconds wasted);

}  // namespace ramferry::cli
