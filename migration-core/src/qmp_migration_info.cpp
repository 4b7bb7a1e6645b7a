// SPDX-License-Identifier: MIT
// query-migrate: what QEMU 7.2 tells in each state, under its names, and ours under "x-ramferry".
#include <ramferry/migration/qmp_commands.hpp>

#include <nlohmann/json.hpp>

#include <charconv>

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
  // As of old: -1 before anything was measured.
  const double measured = status.bytes_per_second > 0 ? status.bytes_per_second * 8 / 1e6 : -1;
  const double current = status.state == State::completed ? megabits : measured;
  return {{"transferred", status.transferred},
          {"remaining", status.ram_remaining},
          {"total", status.ram_total},
          {"duplicate", status.pages.zero},
          {"skipped", 0},
          {"normal", status.pages.normal},
          {"normal-bytes", status.pages.normal * status.page_bytes},
          {"dirty-pages-rate", static_cast<std::uint64_t>(status.dirty_pages_per_second)},
          {"mbps", current},
          {"dirty-sync-count", status.rounds_begun},
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

json xbzrle_info(const XbzrleCounts& counts, std::uint64_t page_bytes) {
  const double looked_up = static_cast<double>(counts.pages + counts.overflows + counts.cache_misses);
  const double raw = static_cast<double>(counts.pages * page_bytes);
  return {{"cache-size", counts.cache_bytes},
          {"bytes", counts.bytes},
          {"pages", counts.pages},
          {"cache-miss", counts.cache_misses},
          {"cache-miss-rate", looked_up > 0 ? static_cast<double>(counts.cache_misses) / looked_up : 0},
          {"encoding-rate", counts.bytes > 0 ? raw / static_cast<double>(counts.bytes) : 0},
          {"overflow", counts.overflows}};
}

/// Our workers are never found busy: the pages wait for them.
json compression_info(const CompressionCounts& counts, std::uint64_t page_bytes) {
  const double raw = static_cast<double>(counts.pages * page_bytes);
  return {{"pages", counts.pages},
          {"busy", 0},
          {"busy-rate", 0},
          {"compressed-size", counts.bytes},
          {"compression-rate", counts.bytes > 0 ? raw / static_cast<double>(counts.bytes) : 0}};
}

/// QEMU's disk statistics have the members of RAM's; most are zero for disks.
json disk_info(const DiskCounts& counts) {
  json info = {{"transferred", counts.transferred}, {"remaining", counts.remaining}, {"total", counts.total}};
  for (const char* unused :
       {"duplicate", "skipped", "normal", "normal-bytes", "dirty-pages-rate", "mbps", "dirty-sync-count",
        "postcopy-requests", "page-size", "multifd-bytes", "pages-per-second", "precopy-bytes",
        "downtime-bytes", "postcopy-bytes", "dirty-sync-missed-zero-copy"})
    info[unused] = 0;
  return info;
}

/// What a source tells while it sends, and once it has sent all.
void add_source_info(json& info, const Status& status) {
  const bool completed = status.state == State::completed;
  info["total-time"] = milliseconds(status.total_time);
  info["setup-time"] = milliseconds(status.setup_time);
  info["ram"] = ram_info(status);
  if (status.xbzrle) info["xbzrle-cache"] = xbzrle_info(*status.xbzrle, status.page_bytes);
  if (status.compression) info["compression"] = compression_info(*status.compression, status.page_bytes);
  if (status.disk && !completed) info["disk"] = disk_info(*status.disk);
  if (status.throttle_percent != 0) info["cpu-throttle-percentage"] = status.throttle_percent;
  if (completed) {
    info["downtime"] = milliseconds(status.downtime.value_or(Nanoseconds{}));
  } else {
    info["expected-downtime"] = milliseconds(status.expected_downtime.value_or(Nanoseconds{}));
  }
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

/// The transport's facts; and, once there is a link, over how many lanes it goes and how much memory is
/// pinned.
void add_link_info(json& info, const Status& status) {
  json facts = json::object();
  if (const auto endpoint = Endpoint::parse(status.uri)) facts["scheme"] = endpoint->scheme;
  std::uint64_t lanes = 1;
  for (const auto& [name, value] : status.facts) {
    facts[name] = value;
    if (name == "lanes") (void)std::from_chars(value.data(), value.data() + value.size(), lanes);
  }
  info["transport"] = std::move(facts);
  if (status.facts.empty()) return;
  info["lanes"] = lanes;
  info["pinned-bytes"] = status.stream.pinned_bytes;
}

/// What only the end that sends counts.
void add_sent_info(json& info, const Status& status) {
  json rounds = json::array();
  constexpr std::size_t kMostRounds = 32;  // the newest: an answer stays small however long it takes
  const std::size_t skip = status.rounds.size() > kMostRounds ? status.rounds.size() - kMostRounds : 0;
  for (std::size_t i = skip; i < status.rounds.size(); ++i) rounds.push_back(round_info(status.rounds[i]));
  info["pages"] = {{"normal", status.pages.normal},
                   {"zero", status.pages.zero},
                   {"untouched", status.pages.untouched},
                   {"deferred", status.pages.deferred}};
  info["rounds"] = std::move(rounds);
  info["bytes-per-second"] = status.bytes_per_second;
}

json own_info(const Status& status) {
  json info = {{"session", status.session.to_string()},
               {"uri", status.uri},
               {"role", status.incoming ? "destination" : "source"},
               {"state", to_string(status.state)},
               {"hand-over", to_string(status.hand_over)},
               {"cpu-seconds", seconds(status.cpu_time)},
               {"total-seconds", seconds(status.total_time)},
               {"stream", stream_info(status.stream)}};
  if (!status.incoming) add_sent_info(info, status);
  add_link_info(info, status);
  if (status.time_to_first_byte.count() != 0)
    info["time-to-first-byte-seconds"] = seconds(status.time_to_first_byte);
  if (!status.tracker.empty()) info["tracker"] = status.tracker;
  if (status.downtime) info["downtime-seconds"] = seconds(*status.downtime);
  if (status.compression) info["compression-declined-pages"] = status.compression->declined_pages;
  if (status.disk)
    info["disk"] = {{"transferred", status.disk->transferred},
                    {"remaining", status.disk->remaining},
                    {"total", status.disk->total}};
  if (status.cancel_time) info["cancel-seconds"] = seconds(*status.cancel_time);
  if (status.expected_downtime) info["predicted-downtime-seconds"] = seconds(*status.expected_downtime);
  return info;
}

}  // namespace

std::string_view qmp_state(const Status& status) noexcept {
  // QEMU shows the switchover only where it waited to be let go on.
  return to_string(status.state == State::device && !status.waited_before_switchover ? State::active
                                                                                     : status.state);
}

json describe_migration(const Status& status) {
  json info = json::object();
  if (status.state == State::none) return info;
  const bool waiting = status.incoming && status.state == State::setup;
  if (!waiting) info["status"] = qmp_state(status);
  const bool under_way = status.state == State::active || status.state == State::pre_switchover ||
                         status.state == State::device || status.state == State::cancelling;
  if (!status.incoming && (under_way || status.state == State::completed)) add_source_info(info, status);
  if (status.state == State::failed && status.error) info["error-desc"] = status.error->message();
  info["x-ramferry"] = own_info(status);
  return info;
}

}  // namespace ramferry::migration
