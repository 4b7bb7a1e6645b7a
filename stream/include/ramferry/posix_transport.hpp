// SPDX-License-Identifier: MIT
// exec:, fd: and file: as plain byte streams.
//
//   exec:command   /bin/sh -c command; connect writes to its standard input, listen reads its standard
//   output; a
//                  status other than 0 is an error of finish() or of the receive that would report the end
//   fd:N           an open descriptor, taken over; any kind that read(2) and write(2) work on
//   file:/path     connect writes /path.partial, synced and renamed by finish(); listen reads /path
//
// A listener of these gives one link; a second accept fails at once with errc::wrong_state.
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
