// SPDX-License-Identifier: MIT
// What of tcp: and unix: works on this machine, and on the way to a peer: the checks of `ramferry doctor`.
#pragma once

#include <ramferry/check.hpp>
#include <ramferry/deadline.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/system_files.hpp>

#include <vector>

namespace ramferry::tcp {

/// Whether a byte crosses each kind of socket.
std::vector<Check> examine_sockets();
/// How much the kernel buffers for a connection.
std::vector<Check> examine_buffers(const SystemFiles& files);
/// Resolve, route and connect (and hang up); or, for tcp: without a host, whether it can be listened on.
std::vector<Check> examine_way(const SystemFiles& files, const Endpoint& to, Deadline deadline);

/// What Transport::examine() returns for tcp: and unix:.
std::vector<Check> examine(const SystemFiles& files, const Endpoint* to);

}  // namespace ramferry::tcp
