// SPDX-License-Identifier: MIT
#include <ramferry/migration/settings.hpp>

#include <algorithm>
#include <utility>

namespace ramferry::migration {
namespace {

using nlohmann::json;

QmpType type_of(const json& value) {
  if (value.is_boolean()) return QmpType::boolean;
  return value.is_string() ? QmpType::string : QmpType::integer;
}

bool in_range(const json& value, std::int64_t low, std::int64_t high) {
  // An unsigned value beyond int64 would look negative as a signed one.
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high))
    return false;
  const auto number = value.get<std::int64_t>();
  return number >= low && number <= high;
}

}  // namespace

void MigrationParameters::add(ParameterSpec spec) {
  const std::lock_guard lock(mutex_);
  specs_.push_back(std::move(spec));
}

void MigrationParameters::add_rule(Rule rule) {
  const std::lock_guard lock(mutex_);
  rules_.push_back(std::move(rule));
}

Result<ParameterSpec*> MigrationParameters::check(const std::string& name, const json& value) {
  const auto at =
      std::find_if(specs_.begin(), specs_.end(), [&name](const auto& spec) { return spec.name == name; });
  if (at == specs_.end()) return fail(errc::invalid_argument, "Parameter '" + name + "' is unexpected");
  RAMFERRY_TRY(check_type(name, type_of(at->value), value));
  if (value.is_number_integer() && !in_range(value, at->low, at->high))
    return fail(errc::invalid_argument, "Parameter '" + name + "' expects an integer in the range of " +
                                            std::to_string(at->low) + " to " + std::to_string(at->high) +
                                            (at->unit.empty() ? "" : " " + at->unit));
  if (!at->choices.empty() && std::find(at->choices.begin(), at->choices.end(), value) == at->choices.end())
    return fail(errc::invalid_argument,
                "Parameter '" + name + "' does not accept value '" + value.get<std::string>() + "'");
  if (!at->settable && value != at->value)
    return fail(errc::unsupported, "Parameter '" + name + "' cannot be changed here");
  return &*at;
}

Result<> MigrationParameters::set_all(const json& values) {
  const std::lock_guard lock(mutex_);
  json merged = json::object();
  for (const ParameterSpec& spec : specs_) merged[spec.name] = spec.value;
  for (const auto& [name, value] : values.items()) {
    RAMFERRY_TRY(check(name, value));
    merged[name] = value;
  }
  for (const Rule& rule : rules_) RAMFERRY_TRY(rule(merged));
  for (ParameterSpec& spec : specs_) spec.value = std::move(merged[spec.name]);
  return {};
}

Result<> MigrationParameters::set(const json& values) {
  RAMFERRY_TRY(set_all(values));
  if (when_set_) when_set_();
  return {};
}

json MigrationParameters::all() const {
  const std::lock_guard lock(mutex_);
  json values = json::object();
  for (const ParameterSpec& spec : specs_) values[spec.name] = spec.value;
  return values;
}

json MigrationParameters::value(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto at =
      std::find_if(specs_.begin(), specs_.end(), [name](const auto& spec) { return spec.name == name; });
  return at == specs_.end() ? json() : at->value;
}

std::int64_t MigrationParameters::integer(std::string_view name) const {
  const json found = value(name);
  return found.is_number_integer() ? found.get<std::int64_t>() : 0;
}

std::string MigrationParameters::text(std::string_view name) const {
  const json found = value(name);
  return found.is_string() ? found.get<std::string>() : std::string();
}

void MigrationCapabilities::add(std::string name, bool on, bool settable) {
  const std::lock_guard lock(mutex_);
  const auto same = [&name](const Capability& capability) { return capability.name == name; };
  if (std::any_of(capabilities_.begin(), capabilities_.end(), same)) return;
  capabilities_.push_back({std::move(name), on, settable});
}

Result<MigrationCapabilities::Capability*> MigrationCapabilities::check(const json& value) {
  RAMFERRY_TRY(check_type("capabilities", QmpType::object, value));
  for (const char* member : {"capability", "state"}) {
    if (!value.contains(member))
      return fail(errc::invalid_argument, "Parameter '" + std::string(member) + "' is missing");
  }
  RAMFERRY_TRY(check_type("capability", QmpType::string, value["capability"]));
  RAMFERRY_TRY(check_type("state", QmpType::boolean, value["state"]));
  const std::string name = value["capability"];
  const auto at = std::find_if(capabilities_.begin(), capabilities_.end(),
                               [&name](const Capability& capability) { return capability.name == name; });
  if (at == capabilities_.end())
    return fail(errc::invalid_argument, "Parameter 'capability' does not accept value '" + name + "'");
  if (!at->settable && value["state"] != at->on)
    return fail(errc::unsupported, "Capability '" + name + "' is not supported here");
  return &*at;
}

Result<> MigrationCapabilities::set(const json& values) {
  const std::lock_guard lock(mutex_);
  RAMFERRY_TRY(check_type("capabilities", QmpType::array, values));
  std::vector<std::pair<Capability*, bool>> changes;
  for (const json& value : values) {
    RAMFERRY_TRY_ASSIGN(Capability * capability, check(value));
    changes.emplace_back(capability, value["state"].get<bool>());
  }
  for (const auto& [capability, on] : changes) capability->on = on;
  return {};
}

json MigrationCapabilities::all() const {
  const std::lock_guard lock(mutex_);
  json values = json::array();
  for (const Capability& capability : capabilities_)
    values.push_back({{"capability", capability.name}, {"state", capability.on}});
  return values;
}

bool MigrationCapabilities::on(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(capabilities_.begin(), capabilities_.end(), [name](const Capability& capability) {
    return capability.name == name && capability.on;
  });
}

}  // namespace ramferry::migration
