// SPDX-License-Identifier: MIT
// query-migrate: what QEMU 7.2 tells in each state, under its names, and ours under "x-ramferry".
#include <ramferry/migration/qmp_commands.hpp>

#include <nlohmann/json.hpp>

namespace ramferry::migration {
namespace {

using nlohmann::json;

std::int64_t milliseconds(Nanoseconds time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
}

double seconds(Nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

json ram_info(const Status& status) {
  const double megabits = status.total_time.count() == 0 ? -1
                                                         : static_cast<double>(status.transferred) * 8 / 1e6 /
                                                               seconds(status.total_time);
  const double current = status.state == State::active ? status.bytes_per_second * 8 / 1e6 : megabits;
  return {{"transferred", status.transferred},
          {"remaining", status.ram_remaining},
          {"total", status.ram_total},
          {"duplicate", status.pages.zero},
          {"skipped", 0},
          {"normal", status.pages.normal},
          {"normal-bytes", status.pages.normal * status.page_bytes},
          {"dirty-pages-rate", static_cast<std::uint64_t>(status.dirty_pages_per_second)},
          {"mbps", current},
          {"dirty-sync-count", status.round},
          {"dirty-sync-missed-zero-copy", 0},
          {"postcopy-requests", 0},
          {"page-size", status.page_bytes},
          {"multifd-bytes", 0},
          {"pages-per-second",
           static_cast<std::uint64_t>(status.bytes_per_second / static_cast<double>(status.page_bytes))},
          {"precopy-bytes", status.transferred},
          {"downtime-bytes", 0},
          {"postcopy-bytes", 0}};
}

json round_info(const RoundReport& round) {
  return {{"round", round.round},
          {"guest-bytes", round.guest_bytes},
          {"wire-bytes", round.wire_bytes},
          {"dirty-pages", round.dirty_pages},
          {"seconds", seconds(round.took)}};
}

json stream_info(const StreamStats& stream) {
  return {{"placed-bytes", stream.placed_bytes_sent},
          {"zero-bytes", stream.zero_bytes_sent},
          {"message-bytes", stream.message_bytes_sent},
          {"wire-bytes", stream.wire_bytes_sent},
          {"copied-bytes", stream.copied_bytes},
          {"received-bytes", stream.wire_bytes_received},
          {"system-calls", stream.system_calls},
          {"work-requests", stream.work_requests},
          {"doorbells", stream.doorbells},
          {"completions", stream.completions},
          {"fences", stream.fences},
          {"pinned-bytes", stream.pinned_bytes},
          {"peak-pinned-bytes", stream.peak_pinned_bytes}};
}

json own_info(const Status& status) {
  json facts = json::object();
  for (const auto& [name, value] : status.facts) facts[name] = value;
  json rounds = json::array();
  constexpr std::size_t kMostRounds = 32;  // the newest: an answer stays small however long it takes
  const std::size_t skip = status.rounds.size() > kMostRounds ? status.rounds.size() - kMostRounds : 0;
  for (std::size_t i = skip; i < status.rounds.size(); ++i) rounds.push_back(round_info(status.rounds[i]));
  json info = {{"session", status.session.to_string()},
               {"uri", status.uri},
               {"role", status.incoming ? "destination" : "source"},
               {"hand-over", to_string(status.hand_over)},
               {"transport", std::move(facts)},
               {"pages",
                {{"normal", status.pages.normal},
                 {"zero", status.pages.zero},
                 {"untouched", status.pages.untouched},
                 {"deferred", status.pages.deferred}}},
               {"rounds", std::move(rounds)},
               {"bytes-per-second", status.bytes_per_second},
               {"cpu-seconds", seconds(status.cpu_time)},
               {"total-seconds", seconds(status.total_time)},
               {"time-to-first-byte-seconds", seconds(status.time_to_first_byte)},
               {"stream", stream_info(status.stream)}};
  if (!status.tracker.empty()) info["tracker"] = status.tracker;
  if (status.downtime) info["downtime-seconds"] = seconds(*status.downtime);
  if (status.expected_downtime) info["predicted-downtime-seconds"] = seconds(*status.expected_downtime);
  return info;
}

}  // namespace

json describe_migration(const Status& status) {
  json info = json::object();
  if (status.state == State::none) return info;
  const bool waiting = status.incoming && status.state == State::setup;
  if (!waiting) info["status"] = to_string(status.state);
  const bool under_way =
      status.state == State::active || status.state == State::device || status.state == State::cancelling;
  if (!status.incoming && (under_way || status.state == State::completed)) {
    info["total-time"] = milliseconds(status.total_time);
    info["setup-time"] = milliseconds(status.setup_time);
    info["ram"] = ram_info(status);
    if (under_way) info["expected-downtime"] = milliseconds(status.expected_downtime.value_or(Nanoseconds{}));
    if (!under_way) info["downtime"] = milliseconds(status.downtime.value_or(Nanoseconds{}));
  }
  if (status.state == State::failed && status.error) info["error-desc"] = status.error->message();
  info["x-ramferry"] = own_info(status);
  return info;
}

}  // namespace ramferry::migration
