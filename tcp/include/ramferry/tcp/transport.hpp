// SPDX-License-Identifier: MIT
// tcp: and unix: as a transport: our own frames with a ramferry at the other end, a plain byte stream with a
// QEMU.
#pragma once

#include <ramferry/transport.hpp>

#include <memory>

namespace ramferry {

/// `log` outlives the transport and all that it makes. What crosses the wire is in docs/protocol-sockets.md.
std::unique_ptr<Transport> make_tcp_transport(Log& log);

}  // namespace ramferry
