// SPDX-License-Identifier: MIT
// Getting connected: sockets to an endpoint, and a channel over them.
#pragma once

#include "socket.hpp"

#include <ramferry/channel.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/log.hpp>
#include <ramferry/unique_fd.hpp>

#include <memory>
#include <vector>

namespace ramferry::tcp {

/// `count` connections to the first address of `to` that answers, prepared by `settings`.
Result<std::vector<UniqueFd>> connect_sockets(const Endpoint& to, std::size_t count, const Settings& settings,
                                              Deadline deadline);
/// Connects, says hello on every lane, and returns when the other end has accepted all of them.
Result<std::unique_ptr<Channel>> connect_channel(const Endpoint& to, SessionId session,
                                                 const Settings& settings, Deadline deadline, Log& log);

/// Connects to a QEMU: a plain stream, or with `settings.channels` a StreamBundle whose channels have
/// introduced themselves. The main connection comes first: a QEMU before 8.0 knows it by that.
Result<Link> connect_qemu(const Endpoint& to, const Settings& settings, Deadline deadline);

}  // namespace ramferry::tcp
