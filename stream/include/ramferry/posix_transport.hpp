// SPDX-License-Identifier: MIT
// exec:, fd: and file: as plain byte streams.
//
// exec:command: /bin/sh -c command, in a process group of its own. connect writes to its standard input (what
// it prints goes to our standard error), listen reads its standard output. A status other than 0 is an error
// of finish(), or of the receive that would report the end: errc::peer_failed; a signal, errc::peer_gone. A
// stream that is destroyed before ends the command and what it started, so that it does not take a cut for
// the end.
//
// fd:N: an open descriptor, taken over; any kind that read(2) and write(2) work on. Pipes, terminals and
// devices are made non-blocking while the stream lives, which other holders of the same open file see. listen
// writes to a socket or character device only: what a source asks in a file or FIFO is not answered into it.
//
// file:/path: connect writes /path.partial, for its owner's eyes only, synced and renamed by finish(); listen
// reads /path. A full disk is errc::no_space. A path that is a device or FIFO is used as it is.
//
// A listener of these gives one link; a second accept fails at once with errc::wrong_state. No write raises
// SIGPIPE or SIGXFSZ, whatever the program does with these signals.
#pragma once

#include <ramferry/transport.hpp>
#include <ramferry/unique_fd.hpp>

#include <functional>
#include <memory>

namespace ramferry {

/// Resolves the NAME of fd:NAME to a descriptor given earlier (QMP getfd), and hands it over.
using NamedDescriptors = std::function<Result<UniqueFd>(std::string_view name)>;

/// `named` may be empty: then only numbers are accepted.
std::unique_ptr<Transport> make_posix_transport(Log& log, NamedDescriptors named = {});

/// A byte stream over an open descriptor; sockets get shutdown(2) on finish.
std::unique_ptr<ByteStream> make_fd_stream(UniqueFd fd, std::string name);

}  // namespace ramferry
