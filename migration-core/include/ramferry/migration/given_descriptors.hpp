// SPDX-License-Identifier: MIT
// Open descriptors that a monitor's client handed over under names (QMP getfd), for addresses fd:NAME.
// Any thread.
#pragma once

#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace ramferry::migration {

class GivenDescriptors {
 public:
  /// One of the same name is closed. errc::invalid_argument for a name that begins with a digit: fd:N is a
  /// number.
  Result<> add(std::string name, UniqueFd fd);
  /// errc::not_found if there is none.
  Result<> close(std::string_view name);
  bool has(std::string_view name);
  /// Gives it away. errc::not_found if there is none.
  Result<UniqueFd> take(std::string_view name);

 private:
  std::mutex mutex_;
  std::map<std::string, UniqueFd, std::less<>> descriptors_;
};

}  // namespace ramferry::migration
