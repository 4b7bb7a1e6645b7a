// SPDX-License-Identifier: MIT
#include "migration_view.hpp"

#include <ramferry/endpoint.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace ramferry::cli {
namespace {

using nlohmann::json;

/// The number at `path` ("/ram/total"), or `otherwise`.
double number(const json& info, const char* path, double otherwise = 0) {
  const json::json_pointer at(path);
  return info.contains(at) && info[at].is_number() ? info[at].get<double>() : otherwise;
}

std::uint64_t whole(const json& info, const char* path) {
  return static_cast<std::uint64_t>(std::max(0.0, number(info, path)));
}

bool has(const json& info, const char* path) {
  return info.contains(json::json_pointer(path));
}

std::string size(double bytes) {
  return format_size(static_cast<std::uint64_t>(std::max(0.0, bytes)));
}

double seconds_since_begin(const json& info) {
  return number(info, "/x-ramferry/total-seconds", number(info, "/total-time") / 1e3);
}

double average_rate(const json& info) {
  const double seconds = seconds_since_begin(info);
  return seconds > 0 ? number(info, "/ram/transferred") / seconds : 0;
}

double fraction_done(const json& info) {
  const double total = number(info, "/ram/total");
  return total <= 0 ? 0 : std::clamp(1 - number(info, "/ram/remaining") / total, 0.0, 1.0);
}

std::string milliseconds(double value) {
  return value < 10 ? fmt::format("{:.1f} ms", value) : fmt::format("{:.0f} ms", value);
}

double downtime_ms(const json& info) {
  return number(info, "/x-ramferry/downtime-seconds", number(info, "/downtime") / 1e3) * 1e3;
}

std::string bar(double fraction) {
  constexpr int kWidth = 24;
  const int full = static_cast<int>(std::lround(fraction * kWidth));
  return "[" + std::string(static_cast<std::size_t>(full), '#') +
         std::string(static_cast<std::size_t>(kWidth - full), '.') + "]";
}

void add_line(std::string& text, const char* label, const std::string& value) {
  if (!value.empty()) text += fmt::format("  {:<12} {}\n", label, value);
}

std::string rounds_line(const json& info) {
  const auto rounds = whole(info, "/ram/dirty-sync-count");
  return rounds == 0 ? "" : std::to_string(rounds);
}

std::string pages_line(const json& info) {
  std::string text =
      fmt::format("{} normal, {} zero", whole(info, "/ram/normal"), whole(info, "/ram/duplicate"));
  if (has(info, "/x-ramferry/pages/untouched"))
    text += fmt::format(", {} untouched, {} deferred", whole(info, "/x-ramferry/pages/untouched"),
                        whole(info, "/x-ramferry/pages/deferred"));
  return text;
}

std::string wire_line(const json& info) {
  const double seconds = number(info, "/x-ramferry/total-seconds", number(info, "/total-time") / 1e3);
  const double bytes = number(info, "/ram/transferred");
  return seconds <= 0 ? size(bytes) : fmt::format("{}, {}/s on average", size(bytes), size(bytes / seconds));
}

std::string cpu_line(const json& source, const json& destination) {
  if (!has(source, "/x-ramferry/cpu-seconds")) return "";
  std::string text = fmt::format("{:.2f} s at the source", number(source, "/x-ramferry/cpu-seconds"));
  if (has(destination, "/x-ramferry/cpu-seconds"))
    text += fmt::format(", {:.2f} s at the destination", number(destination, "/x-ramferry/cpu-seconds"));
  return text;
}

std::string transport_line(const json& info) {
  if (!has(info, "/x-ramferry/transport")) return "";
  std::string text;
  for (const auto& [name, value] : info["x-ramferry"]["transport"].items())
    text += (text.empty() ? "" : ", ") + name + " " +
            (value.is_string() ? value.get<std::string>() : value.dump());
  const auto copied = whole(info, "/x-ramferry/stream/copied-bytes");
  return text + fmt::format("{}{} copied", text.empty() ? "" : ", ", size(static_cast<double>(copied)));
}

std::string pinned_line(const json& info) {
  const auto peak = whole(info, "/x-ramferry/stream/peak-pinned-bytes");
  return peak == 0 ? "" : size(static_cast<double>(peak)) + " at most";
}

/// A page's worth of bytes that was made of fewer, both ways of it.
std::string saved(const json& info, const char* pages, const char* bytes) {
  const double raw = number(info, pages) * number(info, "/ram/page-size", 4096);
  const double sent = number(info, bytes);
  return fmt::format("{} pages as {}{}", whole(info, pages), size(sent),
                     sent > 0 ? fmt::format(", {:.1f} times fewer bytes", raw / sent) : "");
}

std::string xbzrle_line(const json& info) {
  if (!has(info, "/xbzrle-cache")) return "";
  return fmt::format("{}, {} not in the cache, {} changed too much",
                     saved(info, "/xbzrle-cache/pages", "/xbzrle-cache/bytes"),
                     whole(info, "/xbzrle-cache/cache-miss"), whole(info, "/xbzrle-cache/overflow"));
}

std::string compression_line(const json& info) {
  if (!has(info, "/compression")) return "";
  const auto declined = whole(info, "/x-ramferry/compression-declined-pages");
  return saved(info, "/compression/pages", "/compression/compressed-size") +
         (declined == 0 ? ""
                        : fmt::format("; it did not pay for {} pages, which went as they are", declined));
}

std::string disk_line(const json& info) {
  if (!has(info, "/x-ramferry/disk")) return "";
  return fmt::format("{} sent of {}", size(number(info, "/x-ramferry/disk/transferred")),
                     size(number(info, "/x-ramferry/disk/total")));
}

}  // namespace

double TransferRate::look(const json& info) {
  constexpr double kApart = 0.5;
  const double seconds = seconds_since_begin(info), bytes = number(info, "/ram/transferred");
  if (seconds < seconds_ || bytes < bytes_) *this = {};  // another migration
  if (seconds - seconds_ >= kApart) {
    rate_ = (bytes - bytes_) / (seconds - seconds_);
    seconds_ = seconds;
    bytes_ = bytes;
  }
  return rate_.value_or(average_rate(info));
}

std::string progress_text(const json& info, std::optional<double> bytes_per_second) {
  std::string status = info.value("status", "waiting");
  if (status == "pre-switchover") return status + ": the guest is paused, waiting for 'migrate-continue'";
  if (status != "active" && status != "device") return status;
  const double page = number(info, "/ram/page-size", 4096);
  std::string text =
      fmt::format("{:3.0f} %  {}/s  {} left  dirty {}/s", fraction_done(info) * 100,
                  size(bytes_per_second.value_or(average_rate(info))), size(number(info, "/ram/remaining")),
                  size(number(info, "/ram/dirty-pages-rate") * page));
  const double downtime =
      number(info, "/x-ramferry/predicted-downtime-seconds", number(info, "/expected-downtime") / 1e3);
  text += fmt::format("  downtime ~{}  round {}", milliseconds(downtime * 1e3),
                      whole(info, "/ram/dirty-sync-count"));
  if (has(info, "/disk/remaining"))
    text += fmt::format("  disk {} left", size(number(info, "/disk/remaining")));
  if (has(info, "/cpu-throttle-percentage"))
    text += fmt::format("  guest slowed by {} %", whole(info, "/cpu-throttle-percentage"));
  return text;
}

std::string summary_text(const json& source, const json& destination) {
  const double total = seconds_since_begin(source);
  std::string text = fmt::format("migrated {} in {:.2f} s, downtime {}\n", size(number(source, "/ram/total")),
                                 total, milliseconds(downtime_ms(source)));
  add_line(text, "rounds", rounds_line(source));
  add_line(text, "pages", pages_line(source));
  add_line(text, "xbzrle", xbzrle_line(source));
  add_line(text, "compression", compression_line(source));
  add_line(text, "disk", disk_line(source));
  add_line(text, "on the wire", wire_line(source));
  add_line(text, "CPU", cpu_line(source, destination));
  add_line(text, "tracker",
           has(source, "/x-ramferry/tracker") ? source["x-ramferry"]["tracker"].get<std::string>() : "");
  add_line(text, "transport", transport_line(source));
  add_line(text, "pinned", pinned_line(source));
  return text;
}

ProgressBar::ProgressBar(std::FILE* to, bool wanted)
    : to_(to), wanted_(wanted), terminal_(isatty(fileno(to)) != 0) {}

void ProgressBar::show(const json& info) {
  if (!wanted_) return;
  const double rate = rate_.look(info);
  if (terminal_) {
    fmt::print(to_, "\r\033[K{} {}", bar(fraction_done(info)), progress_text(info, rate));
    drawn_ = true;
    std::fflush(to_);
    return;
  }
  const auto now = SteadyClock::now();
  if (now < next_line_) return;
  next_line_ = now + std::chrono::seconds(1);
  fmt::print(to_, "{}\n", progress_text(info, rate));
  std::fflush(to_);
}

void ProgressBar::clear() {
  if (drawn_) fmt::print(to_, "\r\033[K");
  drawn_ = false;
  std::fflush(to_);
}

}  // namespace ramferry::cli
