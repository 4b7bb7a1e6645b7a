// SPDX-License-Identifier: MIT
// The connections of one QEMU with multifd, while they arrive.
#pragma once

#include "listener.hpp"
#include "multifd_hello.hpp"

#include <ramferry/unique_fd.hpp>

#include <optional>
#include <vector>

namespace ramferry::tcp {

struct SocketListener::Bundling {
  Bundling(asio::io_context& context, std::size_t count)
      : channels(count), missing(count + 1), patience(context) {}
  std::unique_ptr<ByteStream> main;
  std::vector<std::unique_ptr<ByteStream>> channels;  ///< by number; empty until it is there
  std::optional<std::array<std::byte, 16>> uuid;      ///< of the channel that came first
  std::size_t missing;
  asio::steady_timer patience;
};

}  // namespace ramferry::tcp
