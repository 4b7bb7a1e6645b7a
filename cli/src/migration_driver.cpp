// SPDX-License-Identifier: MIT
#include "migration_driver.hpp"

#include "command.hpp"
#include "migration_view.hpp"

#include <ramferry/endpoint.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <utility>

namespace ramferry::cli {
namespace {

using nlohmann::json;

constexpr auto kLookEvery = std::chrono::milliseconds(150);

bool is_of_bytes(std::string_view parameter) {
  constexpr std::array<std::string_view, 3> kOfBytes = {"max-bandwidth", "max-postcopy-bandwidth",
                                                        "xbzrle-cache-size"};
  return std::find(kOfBytes.begin(), kOfBytes.end(), parameter) != kOfBytes.end();
}

/// "on", "5", "0.5", "none", where bytes are counted "100M" → what the VM expects in its place.
json value_of(std::string_view name, const std::string& text) {
  if (text == "on" || text == "true") return true;
  if (text == "off" || text == "false") return false;
  json number = json::parse(text, nullptr, false);
  if (number.is_number()) return number;
  const auto bytes = is_of_bytes(name) ? parse_size(text) : fail(errc::unsupported, "reading a size");
  return bytes ? json(*bytes) : json(text);
}

/// A setting that the VM refuses, with where to look them up.
Result<> set(QmpClient& vm, const char* command, json arguments) {
  auto done = vm.execute(command, std::move(arguments));
  if (done) return {};
  Error error = std::move(done).error();
  if (error.is(errc::peer_failed)) error.advice = "docs/tuning.md lists them";
  return Failure(std::move(error));
}

Result<> set_one(QmpClient& vm, const std::string& setting) {
  const auto equals = setting.find('=');
  if (equals == 0 || equals == std::string::npos)
    return fail(errc::invalid_argument, "reading --set '" + setting + "'", "it is NAME=VALUE");
  const std::string name = setting.substr(0, equals);
  const json value = value_of(name, setting.substr(equals + 1));
  RAMFERRY_TRY_ASSIGN(const json capabilities, vm.execute("query-migrate-capabilities"));
  const bool capability = std::any_of(capabilities.begin(), capabilities.end(), [&name](const json& each) {
    return each.value("capability", "") == name;
  });
  if (capability && value.is_boolean())
    return set(vm, "migrate-set-capabilities",
               {{"capabilities", json::array({{{"capability", name}, {"state", value}}})}});
  if (capability) return fail(errc::invalid_argument, "setting the capability " + name, "it is on or off");
  return set(vm, "migrate-set-parameters", {{name, value}});
}

bool is_over(const json& info) {
  const std::string status = info.value("status", "none");
  return status == "completed" || status == "failed" || status == "cancelled";
}

/// Waits for the next look, or less if an event says that there is something to see.
Result<> wait_a_little(QmpClient& vm) {
  const Deadline deadline = Deadline::after(kLookEvery);
  for (;;) {
    const auto event = vm.event(deadline);
    if (!event) return event.error().is(errc::timed_out) ? Result<>() : Failure(event.error());
    if (event->value("event", "") == "MIGRATION") return {};
  }
}

Result<> obey_signal(QmpClient& vm, int& signals_taken) {
  if (++signals_taken > 1)
    return fail(errc::cancelled, "watching the migration", "it may still be under way");
  fmt::print(stderr, "\nramferry: cancelling the migration; once more to stop watching\n");
  RAMFERRY_TRY(vm.execute("migrate_cancel"));
  return {};
}

}  // namespace

Result<json> drive_migration(QmpClient& vm, const MigrationOrder& order, StopSignals& signals) {
  for (const std::string& setting : order.settings) RAMFERRY_TRY(set_one(vm, setting));
  // Without it there are no events, and we look every now and then as well.
  (void)vm.execute("migrate-set-capabilities",
                   {{"capabilities", json::array({{{"capability", "events"}, {"state", true}}})}});
  RAMFERRY_TRY(vm.execute("migrate", {{"uri", order.uri}}));
  ProgressBar bar(stderr, order.show_progress);
  int signals_taken = 0;
  for (;;) {
    RAMFERRY_TRY_ASSIGN(json info, vm.execute("query-migrate"));
    if (is_over(info)) return info;
    bar.show(info);
    if (signals.take()) RAMFERRY_TRY(obey_signal(vm, signals_taken));
    RAMFERRY_TRY(wait_a_little(vm));
  }
}

Result<> outcome(const json& info) {
  const std::string status = info.value("status", "none");
  if (status == "completed") return {};
  const json::json_pointer hand_over("/x-ramferry/hand-over");
  if (info.contains(hand_over) && info[hand_over] == "unknown")
    return fail(
        errc::outcome_unknown,
        "migrating: " + info.value("error-desc", std::string("the last acknowledgement was lost")),
        "ask both VMs with 'ramferry status'; 'cont' with x-ramferry-force runs the guest at one of them");
  if (status == "cancelled") return fail(errc::cancelled, "migrating", "the guest goes on at the source");
  return said(errc::peer_failed, "migrating: " + info.value("error-desc", std::string("no reason given")),
              "the guest goes on at the source");
}

}  // namespace ramferry::cli
