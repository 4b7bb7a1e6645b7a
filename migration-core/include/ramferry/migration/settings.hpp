// SPDX-License-Identifier: MIT
// Migration parameters and capabilities by name, as QMP sets and lists them: registries that the core, a VMM
// and the transports add to. They survive from one migration to the next. Any thread.
#pragma once

#include <ramferry/migration/qmp_command.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::migration {

struct ParameterSpec {
  std::string name;      ///< "downtime-limit"
  nlohmann::json value;  ///< the default; its type is the parameter's
  std::int64_t low = 0;  ///< integers: the least and the most allowed
  std::int64_t high = 0;
  std::string unit;                  ///< for the error: "milliseconds"
  std::vector<std::string> choices;  ///< texts: what is allowed; empty: anything
  bool settable = true;              ///< false: listed at its default, refused when set to another value
};

class MigrationParameters {
 public:
  void add(ParameterSpec spec);
  /// Called after each successful set(), on the thread that set.
  void when_set(std::function<void()> callback) { when_set_ = std::move(callback); }
  /// What a set() must satisfy beyond each parameter's own range: gets all values as they would become.
  using Rule = std::function<Result<>(const nlohmann::json& values)>;
  void add_rule(Rule rule);

  /// All of `values` or, if one is wrong, none; the error names it and what is allowed.
  Result<> set(const nlohmann::json& values);
  nlohmann::json all() const;
  std::int64_t integer(std::string_view name) const;
  std::string text(std::string_view name) const;

 private:
  Result<ParameterSpec*> check(const std::string& name, const nlohmann::json& value);
  Result<> set_all(const nlohmann::json& values);
  nlohmann::json value(std::string_view name) const;

  mutable std::mutex mutex_;
  std::vector<ParameterSpec> specs_;
  std::vector<Rule> rules_;
  std::function<void()> when_set_;
};

class MigrationCapabilities {
 public:
  /// A name that is there already keeps what it is.
  void add(std::string name, bool on = false, bool settable = true);
  /// `values` as in migrate-set-capabilities: [{"capability": NAME, "state": BOOL}]. All or none.
  Result<> set(const nlohmann::json& values);
  nlohmann::json all() const;
  bool on(std::string_view name) const;

 private:
  struct Capability {
    std::string name;
    bool on = false, settable = true;
  };
  Result<Capability*> check(const nlohmann::json& value);

  mutable std::mutex mutex_;
  std::vector<Capability> capabilities_;
};

/// What QEMU 7.2 lists, under its names: what is honoured here can be set, the rest is listed at QEMU's
/// default and refused when set. docs/tuning.md says which is which.
void add_standard_settings(MigrationParameters& parameters, MigrationCapabilities& capabilities);

}  // namespace ramferry::migration
