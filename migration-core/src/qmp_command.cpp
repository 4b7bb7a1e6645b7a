// SPDX-License-Identifier: MIT
#include <ramferry/migration/qmp_command.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace ramferry::migration {
namespace {

using nlohmann::json;

bool has_type(QmpType type, const json& value) {
  switch (type) {
    case QmpType::string: return value.is_string();
    case QmpType::boolean: return value.is_boolean();
    case QmpType::integer: return value.is_number_integer();
    case QmpType::number: return value.is_number();
    case QmpType::array: return value.is_array();
    case QmpType::object: return value.is_object();
  }
  return false;
}

std::optional<QmpError> problem_with(const QmpCommand& command, const json& arguments) {
  for (const QmpArgument& argument : command.arguments) {
    const auto given = arguments.find(argument.name);
    if (given == arguments.end()) {
      if (argument.optional) continue;
      return QmpError{"GenericError", "Parameter '" + argument.name + "' is missing"};
    }
    const auto checked = check_type(argument.name, argument.type, *given);
    if (!checked) return QmpError{"GenericError", checked.error().doing};
  }
  for (const auto& [name, value] : arguments.items()) {
    const auto same = [&given = name](const QmpArgument& argument) { return argument.name == given; };
    if (std::none_of(command.arguments.begin(), command.arguments.end(), same))
      return QmpError{"GenericError", "Parameter '" + name + "' is unexpected"};
  }
  return std::nullopt;
}

}  // namespace

tl::unexpected<QmpError> qmp_fail(std::string desc) {
  return tl::unexpected<QmpError>({"GenericError", std::move(desc)});
}

QmpResult qmp_result(const Result<>& result) {
  if (!result) return qmp_fail(result.error().message());
  return json::object();
}

Result<> check_type(std::string_view name, QmpType type, const json& value) {
  constexpr std::array<std::string_view, 6> kNames = {"string", "boolean", "integer",
                                                      "number", "array",   "object"};
  if (has_type(type, value)) return {};
  return fail(errc::invalid_argument, "Invalid parameter type for '" + std::string(name) + "', expected: " +
                                          std::string(kNames[static_cast<std::size_t>(type)]));
}

void QmpCommandTable::add(QmpCommand command) {
  const auto same = [&command](const QmpCommand& other) { return other.name == command.name; };
  const auto at = std::find_if(commands_.begin(), commands_.end(), same);
  if (at != commands_.end()) {
    *at = std::move(command);
  } else {
    commands_.push_back(std::move(command));
  }
}

const QmpCommand* QmpCommandTable::find(std::string_view name) const noexcept {
  const auto same = [name](const QmpCommand& command) { return command.name == name; };
  const auto at = std::find_if(commands_.begin(), commands_.end(), same);
  return at == commands_.end() ? nullptr : &*at;
}

QmpResult QmpCommandTable::run(std::string_view name, const json& arguments, QmpCaller& caller) const {
  const QmpCommand* command = find(name);
  if (command == nullptr)
    return tl::unexpected<QmpError>(
        {"CommandNotFound", "The command " + std::string(name) + " has not been found"});
  if (!command->checks_arguments) {
    if (auto problem = problem_with(*command, arguments)) return tl::unexpected(std::move(*problem));
  }
  return command->run_for ? command->run_for(arguments, caller) : command->run(arguments);
}

}  // namespace ramferry::migration
