// SPDX-License-Identifier: MIT
// What can go wrong, in words that programs and people share.
//
// `errc` names *conditions*: what a caller may act on. A module keeps its own precise codes (errno, verbs
// status, …) and maps them to these conditions, so ECONNRESET and a verbs retry error both compare equal
// to errc::peer_gone. Compare with `error.is(errc::peer_gone)`.
#pragma once

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace ramferry {

enum class errc : std::uint8_t {
  cancelled = 1,      ///< cancel() was called here
  timed_out,          ///< a deadline passed
  peer_gone,          ///< the other end closed, died, or fell silent past the dead-peer deadline
  peer_failed,        ///< the other end is alive and told us that it failed
  protocol_mismatch,  ///< bytes from the peer, a file or a stream break the format
  unsupported,        ///< well-formed, and this build, kernel or peer cannot do it
  invalid_argument,   ///< the caller or user asked for something that makes no sense
  not_found,          ///< a file, host, device, slot or section does not exist
  in_use,             ///< an address, file or slot is taken
  permission,         ///< the system refuses
  no_space,           ///< a disk or file is full
  memory_lock_limit,  ///< memory cannot be pinned: RLIMIT_MEMLOCK, a cgroup or a device limit
  wrong_state,        ///< correct request, wrong moment
  outcome_unknown,    ///< the last acknowledgement was lost: who owns the guest cannot be told from here
  io,                 ///< any other failure of the system
};

const std::error_category& condition_category() noexcept;
std::error_condition make_error_condition(errc condition) noexcept;
/// For modules without codes of their own: the condition as a code.
std::error_code make_error_code(errc condition) noexcept;

/// A failure: the code for programs, what we were doing for people, and what to do next if we know.
struct Error {
  std::error_code code;
  std::string doing;   ///< "connecting to tcp:10.0.0.7:4444"
  std::string advice;  ///< "start the destination first"; empty if there is none

  bool is(errc condition) const noexcept { return code == make_error_condition(condition); }
  /// One line: "<doing>: <what the code says> (<advice>)".
  std::string message() const;
};

/// The value, or why there is none. An alias, so that C++23 is a one-line change.
template <class T = void>
using Result = tl::expected<T, Error>;
using Failure = tl::unexpected<Error>;

Failure fail(std::error_code code, std::string doing, std::string advice = {});
Failure fail(errc condition, std::string doing, std::string advice = {});
/// From errno (positive).
Failure fail_errno(int error_number, std::string doing, std::string advice = {});
/// The same failure, told from one level further out: "<outer>: <doing>".
Failure within(Error error, std::string_view outer);

}  // namespace ramferry

template <>
struct std::is_error_condition_enum<ramferry::errc> : std::true_type {};

/// Returns the error of `expression`, a Result, from the enclosing function.
#define RAMFERRY_TRY(expression)                                              \
  do {                                                                        \
    if (auto ramferry_result_ = (expression); !ramferry_result_) /* NOLINT */ \
      return ::ramferry::Failure(std::move(ramferry_result_).error());        \
  } while (false)

#define RAMFERRY_CONCAT_TOKENS(a, b) a##b
#define RAMFERRY_CONCAT(a, b) RAMFERRY_CONCAT_TOKENS(a, b)
/// `RAMFERRY_TRY_ASSIGN(auto value, expression)`: the value of a Result, or return its error.
#define RAMFERRY_TRY_ASSIGN(target, expression)                                                 \
  auto RAMFERRY_CONCAT(ramferry_result_, __LINE__) = (expression);                              \
  if (!RAMFERRY_CONCAT(ramferry_result_, __LINE__))                                             \
    return ::ramferry::Failure(std::move(RAMFERRY_CONCAT(ramferry_result_, __LINE__)).error()); \
  target = std::move(*RAMFERRY_CONCAT(ramferry_result_, __LINE__))
