// SPDX-License-Identifier: MIT
// The lanes of one session, while they arrive.
#pragma once

#include "listener.hpp"

#include <ramferry/unique_fd.hpp>

#include <cstdint>
#include <vector>

namespace ramferry::tcp {

struct SocketListener::Gathering {
  Gathering(asio::io_context& context, const Preamble& hello)
      : first(hello), sockets(hello.lanes), missing(hello.lanes), patience(context) {}
  Preamble first;                 ///< of the lane that came first
  std::vector<UniqueFd> sockets;  ///< by lane; empty until it is there
  std::size_t missing;
  std::uint64_t bytes = 0;  ///< of the preambles
  asio::steady_timer patience;
};

}  // namespace ramferry::tcp
