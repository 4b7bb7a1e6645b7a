// SPDX-License-Identifier: MIT
#include "file_input.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace ramferry::checkpoint {

Result<std::unique_ptr<FileInput>> FileInput::open(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return fail_errno(errno, "opening " + path.string());
  const auto size = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
  return std::unique_ptr<FileInput>(new FileInput(path.string(), std::move(fd), size));
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
