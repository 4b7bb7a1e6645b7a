// SPDX-License-Identifier: MIT
#include <ramferry/error.hpp>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace ramferry {
namespace {

std::string describe(errc condition) {
  switch (condition) {
    case errc::cancelled: return "cancelled";
    case errc::timed_out: return "timed out";
    case errc::peer_gone: return "the peer is gone";
    case errc::peer_failed: return "the peer failed";
    case errc::protocol_mismatch: return "malformed data";
    case errc::unsupported: return "not supported";
    case errc::invalid_argument: return "invalid argument";
    case errc::not_found: return "not found";
    case errc::in_use: return "already in use";
    case errc::permission: return "not permitted";
    case errc::no_space: return "no space left";
    case errc::memory_lock_limit: return "memory cannot be locked";
    case errc::wrong_state: return "not possible in this state";
    case errc::outcome_unknown: return "the outcome is unknown";
    case errc::io: return "input/output error";
  }
  return "unknown error";
}

/// What a system error number means to a caller; 0 stands for "no particular condition".
errc condition_of(int error_number) noexcept {
  switch (error_number) {
    case ECANCELED: return errc::cancelled;
    case ETIMEDOUT: return errc::timed_out;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
    case ENETRESET: return errc::peer_gone;
    case EPROTO:
    case EBADMSG:
    case EILSEQ: return errc::protocol_mismatch;
    case EOPNOTSUPP:
    case ENOSYS:
    case ENOTTY:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT: return errc::unsupported;
    case EINVAL:
    case EISDIR:
    case EDOM:
    case ENAMETOOLONG: return errc::invalid_argument;
    case ENOENT:
    case ENOTDIR:
    case ENXIO:
    case ENODEV:
    case ESRCH:
    case EADDRNOTAVAIL: return errc::not_found;
    case EADDRINUSE:
    case EEXIST:
    case EBUSY: return errc::in_use;
    case EACCES:
    case EPERM:
    case EROFS: return errc::permission;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return errc::no_space;
    default: return errc::io;
  }
}

class ConditionCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "ramferry"; }
  std::string message(int value) const override { return describe(static_cast<errc>(value)); }
  bool equivalent(const std::error_code& code, int condition) const noexcept override {
    if (code.category() == std::system_category() || code.category() == std::generic_category())
      return condition_of(code.value()) == static_cast<errc>(condition);
    return code.default_error_condition() == std::error_condition(condition, *this);
  }
};

}  // namespace

const std::error_category& condition_category() noexcept {
  static const ConditionCategory category;
  return category;
}

std::error_condition make_error_condition(errc condition) noexcept {
  return {static_cast<int>(condition), condition_category()};
}

std::error_code make_error_code(errc condition) noexcept {
  return {static_cast<int>(condition), condition_category()};
}

std::string Error::message() const {
  std::string text = doing;
  if (const std::string why = code.message(); !why.empty()) text += ": " + why;  // else `doing` says it all
  if (!advice.empty()) text += " (" + advice + ")";
  return text;
}

Failure fail(std::error_code code, std::string doing, std::string advice) {
  return Failure(Error{code, std::move(doing), std::move(advice)});
}

Failure fail(errc condition, std::string doing, std::string advice) {
  return fail(make_error_code(condition), std::move(doing), std::move(advice));
}

Failure fail_errno(int error_number, std::string doing, std::string advice) {
  return fail(std::error_code(error_number, std::system_category()), std::move(doing), std::move(advice));
}

Failure within(Error error, std::string_view outer) {
  error.doing.insert(0, std::string(outer) + ": ");
  return Failure(std::move(error));
}

}  // namespace ramferry
