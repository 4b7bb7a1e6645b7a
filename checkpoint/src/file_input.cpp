// SPDX-License-Identifier: MIT
#include "file_input.hpp"

#include <unistd.h>

#include <cerrno>

namespace ramferry::checkpoint {

Result<std::unique_ptr<FileInput>> FileInput::open(const std::filesystem::path& path) {
  RAMFERRY_TRY_ASSIGN(OpenFile file, open_to_read(path));
  return std::unique_ptr<FileInput>(new FileInput(path.string(), std::move(file)));
}

Result<> FileInput::send(ConstBytes /*bytes*/) {
  return fail(errc::wrong_state, "writing to " + name_);
}

Result<std::size_t> FileInput::receive(Bytes into, Deadline /*deadline*/) {
  for (;;) {
    const ssize_t got = ::read(fd_.get(), into.data(), into.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return fail_errno(errno, "reading " + name_);
  }
}

}  // namespace ramferry::checkpoint
