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
/// To a stock QEMU.
Result<std::unique_ptr<ByteStream>> connect_qemu(Log& log, Fabric& fabric, const Endpoint& to,
                                                 const Options& options, Deadline deadline);
std::unique_ptr<Transport> make_transport_over(Log& log, std::unique_ptr<Fabric> fabric);

}  // namespace ramferry::rdma
