// SPDX-License-Identifier: MIT
#include "bench/report.hpp"

#include "features.hpp"

#include <ramferry/endpoint.hpp>
#include <ramferry/system_files.hpp>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>

namespace ramferry::cli {
namespace {

using nlohmann::json;

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double rate(const BenchRun& run) {
  return static_cast<double>(run.bytes) / std::max(run.seconds, 1e-9);
}

json to_json(const BenchRun& run) {
  json result = {{"seconds", run.seconds},
                 {"bytes", run.bytes},
                 {"bytes-per-second", rate(run)},
                 {"cpu-source", run.source.user + run.source.system},
                 {"user-source", run.source.user},
                 {"wire-bytes", run.counted.wire_bytes_sent},
                 {"copied-bytes", run.counted.copied_bytes},
                 {"system-calls", run.counted.system_calls},
                 {"work-requests", run.counted.work_requests},
                 {"doorbells", run.counted.doorbells},
                 {"completions", run.counted.completions}};
  if (run.destination) {
    result["cpu-destination"] = run.destination->user + run.destination->system;
    result["user-destination"] = run.destination->user;
  }
  return result;
}

json this_machine() {
  const SystemFiles files;
  const auto memory = words_of(files.field("/proc/meminfo", "MemTotal").value_or(""));
  std::uint64_t kibibytes = 0;
  if (!memory.empty())
    (void)std::from_chars(memory[0].data(), memory[0].data() + memory[0].size(), kibibytes);
  return {{"cpu", files.field("/proc/cpuinfo", "model name").value_or("unknown")},
          {"kernel", files.line("/proc/sys/kernel/osrelease").value_or("unknown")},
          {"memory", kibibytes * 1024}};
}

std::string cpu_text(const std::optional<CpuTime>& cpu) {
  return cpu ? fmt::format("{:.2f} s", cpu->user + cpu->system) : "-";
}

}  // namespace

CpuTime CpuTime::of_this_process() noexcept {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return {seconds(used.ru_utime), seconds(used.ru_stime)};
}

json to_json(const BenchReport& report) {
  json setup = json::object(), facts = json::object(), runs = json::array();
  for (const auto& [name, time] : report.setup) setup[name] = time;
  for (const auto& [name, value] : report.facts) facts[name] = value;
  for (const BenchRun& run : report.runs) runs.push_back(to_json(run));
  return {{"version", RAMFERRY_VERSION},   {"machine", this_machine()},
          {"what", report.what},           {"uri", report.uri},
          {"bytes", report.bytes},         {"extent", report.extent},
          {"stride", report.stride},       {"setup", std::move(setup)},
          {"pinned-bytes", report.pinned}, {"destination-pinned-bytes", report.destination_pinned},
          {"transport", std::move(facts)}, {"runs", std::move(runs)}};
}

std::string to_text(const BenchReport& report) {
  std::string text = fmt::format("{} of {} to {}: {} each", report.what, format_size(report.bytes),
                                 report.uri, format_size(report.extent));
  if (report.stride != report.extent) text += fmt::format(", one in {}", format_size(report.stride));
  text += "\n";
  for (const auto& [name, time] : report.setup) text += fmt::format("  {:<16} {:.1f} ms\n", name, time * 1e3);
  if (report.pinned != 0)
    text += fmt::format("  {:<16} {} here, {} there\n", "pinned", format_size(report.pinned),
                        format_size(report.destination_pinned));
  text += fmt::format("  {:>3} {:>10} {:>14} {:>10} {:>10} {:>9} {:>9} {:>11}\n", "run", "seconds", "rate",
                      "CPU here", "CPU there", "writes", "doorbells", "completions");
  int number = 0;
  for (const BenchRun& run : report.runs) {
    const bool writes = run.counted.work_requests != 0;
    text +=
        fmt::format("  {:>3} {:>10.3f} {:>12}/s {:>10} {:>10} {:>9} {:>9} {:>11}\n", ++number, run.seconds,
                    format_size(static_cast<std::uint64_t>(rate(run))), cpu_text(run.source),
                    cpu_text(run.destination), writes ? run.counted.work_requests : run.counted.system_calls,
                    writes ? std::to_string(run.counted.doorbells) : "-",
                    writes ? std::to_string(run.counted.completions) : "-");
  }
  return text;
}

}  // namespace ramferry::cli
