// SPDX-License-Identifier: MIT
// The monitor's commands: a table of names, arguments and functions, checked as QEMU checks them.
//
// Filled by hand where the program is put together, before the server starts; read only after that.
#pragma once

#include <ramferry/error.hpp>
#include <ramferry/unique_fd.hpp>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::migration {

struct QmpError {
  std::string kind;  ///< QEMU's error class: "GenericError", "CommandNotFound", …
  std::string desc;  ///< for people
};
using QmpResult = tl::expected<nlohmann::json, QmpError>;

/// What a command may know of the client that asked for it.
struct QmpCaller {
  /// Descriptors that came along with what it said (SCM_RIGHTS), in their order; a command may take them.
  std::deque<UniqueFd> descriptors;
};

/// A GenericError.
tl::unexpected<QmpError> qmp_fail(std::string desc);
/// The answer to a call: {} or a GenericError with the whole message.
QmpResult qmp_result(const Result<>& result);

enum class QmpType : std::uint8_t { string, boolean, integer, number, array, object };
/// An error naming `name` and the type it should have had, in QEMU's words; nothing if `value` has it.
Result<> check_type(std::string_view name, QmpType type, const nlohmann::json& value);

struct QmpArgument {
  std::string name;
  QmpType type = QmpType::string;
  bool optional = false;
};

struct QmpCommand {
  std::string name;
  std::vector<QmpArgument> arguments;
  /// Called with an object whose members were checked against `arguments`. One command at a time; quick.
  std::function<QmpResult(const nlohmann::json& arguments)> run{};
  /// In place of `run`, for a command that needs to know who asks.
  std::function<QmpResult(const nlohmann::json& arguments, QmpCaller& caller)> run_for{};
  /// The function checks the arguments itself: their names are not known beforehand.
  bool checks_arguments = false;
};

class QmpCommandTable {
 public:
  /// A command of the same name is replaced.
  void add(QmpCommand command);
  void add_event(std::string name) { events_.push_back(std::move(name)); }

  /// CommandNotFound; or GenericError for an argument that is missing, unknown or of another type.
  QmpResult run(std::string_view name, const nlohmann::json& arguments, QmpCaller& caller) const;
  const std::vector<QmpCommand>& commands() const noexcept { return commands_; }
  const std::vector<std::string>& events() const noexcept { return events_; }

 private:
  const QmpCommand* find(std::string_view name) const noexcept;
  std::vector<QmpCommand> commands_;
  std::vector<std::string> events_;
};

}  // namespace ramferry::migration
