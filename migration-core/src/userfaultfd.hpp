// SPDX-License-Identifier: MIT
// A userfaultfd used for write protection.
#pragma once

#include <ramferry/bytes.hpp>
#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <cstdint>
#include <utility>

namespace ramferry::migration {

/// Ranges are whole host pages inside a watched range. Any thread.
class Userfaultfd {
 public:
  enum class Faults : std::uint8_t {
    resolved_by_kernel,  ///< nobody needs to read from the descriptor; no privilege is needed
    handed_over,         ///< those of system calls too, so that read(2) into guest memory works
  };
  /// errc::permission or errc::unsupported if it cannot be had with the `required` kernel::kWriteProtect…
  /// features.
  static Result<Userfaultfd> open(Faults faults, std::uint64_t required, std::uint64_t wanted = 0);

  bool has(std::uint64_t features) const noexcept { return (features_ & features) == features; }
  int fd() const noexcept { return fd_.get(); }

  enum class Untouched : std::uint8_t {
    leave,
    report,  ///< the first access to each page, though it be a read, waits for fill_zero(); private anonymous
             ///< memory
  };
  /// Takes the range over, or changes how; nothing is protected yet.
  Result<> watch(Bytes memory, Untouched untouched = Untouched::leave) const;
  /// Lifts protection from the range. Does not wake those who wait.
  void forget(Bytes memory) const noexcept;
  Result<> protect(Bytes memory) const { return write_protect(memory, true); }
  /// Wakes whoever waits to write to it.
  Result<> unprotect(Bytes memory) const { return write_protect(memory, false); }
  /// Gives an untouched page that somebody waits for the content it would have had, and wakes them.
  Result<> fill_zero(Bytes memory) const;
  void wake(Bytes memory) const noexcept;
  /// Lets everybody go who still waits.
  void close() noexcept { fd_.reset(); }

 private:
  Userfaultfd(UniqueFd fd, std::uint64_t features) noexcept : fd_(std::move(fd)), features_(features) {}
  Result<> write_protect(Bytes memory, bool on) const;

  UniqueFd fd_;
  std::uint64_t features_;
};

}  // namespace ramferry::migration
