// SPDX-License-Identifier: MIT
// The transport over any fabric: what make_rdma_transport() and the tests build on.
#pragma once

#include "fabric.hpp"
#include "options.hpp"

#include <ramferry/transport.hpp>

#include <memory>

namespace ramferry::rdma {

/// Several sessions may be in the making at once: lanes find theirs by session and token.
Result<std::unique_ptr<Listener>> make_listener(Log& log, std::unique_ptr<Acceptor> acceptor,
                                                const Endpoint& at, const Options& options);
Result<std::unique_ptr<Channel>> connect_channel(Log& log, Fabric& fabric, const Endpoint& to,
                                                 const Options& options, SessionId session,
                                                 Deadline deadline);
/// errc::unsupported where the options ask for QEMU's own RDMA protocol.
Result<> need_native(const Options& options, const Endpoint& endpoint);
std::unique_ptr<Transport> make_transport_over(Log& log, std::unique_ptr<Fabric> fabric);

}  // namespace ramferry::rdma
