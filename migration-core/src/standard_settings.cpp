// SPDX-License-Identifier: MIT
// The parameters and capabilities of a QEMU 7.2, by its names; one line each.
#include <ramferry/migration/settings.hpp>

#include <bit>
#include <limits>

namespace ramferry::migration {
namespace {

using nlohmann::json;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kPageBytes = 4096;
constexpr bool kFixed = false;

ParameterSpec number(std::string name, std::int64_t value, std::int64_t low, std::int64_t high,
                     std::string unit = {}) {
  return {.name = std::move(name), .value = value, .low = low, .high = high, .unit = std::move(unit)};
}

ParameterSpec choice(std::string name, std::vector<std::string> choices) {
  return {.name = std::move(name), .value = choices.front(), .choices = choices};
}

ParameterSpec fixed(ParameterSpec spec) {
  spec.settable = kFixed;
  return spec;
}

ParameterSpec fixed(std::string name, json value) {
  return {.name = std::move(name), .value = std::move(value), .settable = kFixed};
}

std::vector<ParameterSpec> standard_parameters() {
  return {
      number("announce-initial", 50, 0, 100'000, "milliseconds"),
      number("announce-max", 550, 0, 100'000, "milliseconds"),
      number("announce-rounds", 5, 0, 1000),
      number("announce-step", 100, 1, 10'000, "milliseconds"),
      {.name = "block-incremental", .value = false},
      number("compress-level", 1, 0, 9),
      choice("compress-method", {"zlib", "zstd"}),
      number("compress-threads", 8, 1, 255),
      fixed("compress-wait-thread", true),
      number("cpu-throttle-increment", 10, 1, 99, "percent"),
      number("cpu-throttle-initial", 20, 1, 99, "percent"),
      fixed("cpu-throttle-tailslow", false),
      number("decompress-threads", 2, 1, 255),
      number("downtime-limit", 300, 0, 2'000'000, "milliseconds"),
      number("max-bandwidth", 0, 0, kMost, "bytes/second"),
      number("max-cpu-throttle", 99, 1, 99, "percent"),
      fixed(number("max-postcopy-bandwidth", 0, 0, kMost, "bytes/second")),
      fixed(number("multifd-channels", 2, 1, 255)),
      fixed(choice("multifd-compression", {"none", "zlib", "zstd"})),
      fixed(number("multifd-zlib-level", 1, 0, 9)),
      fixed(number("multifd-zstd-level", 1, 0, 20)),
      number("throttle-trigger-threshold", 50, 1, 100, "percent"),
      fixed("tls-authz", ""),
      fixed("tls-creds", ""),
      fixed("tls-hostname", ""),
      fixed(number("x-checkpoint-delay", 20'000, 0, std::numeric_limits<std::uint32_t>::max())),
      number("xbzrle-cache-size", 64 << 20, kPageBytes, kMost, "bytes"),
  };
}

Result<> cache_is_a_power_of_two(const json& values) {
  if (std::has_single_bit(values["xbzrle-cache-size"].get<std::uint64_t>())) return {};
  return fail(errc::invalid_argument,
              "Parameter 'xbzrle-cache-size' expects a power of two no less than the target page size");
}

Result<> throttle_has_room(const json& values) {
  if (values["max-cpu-throttle"] >= values["cpu-throttle-initial"]) return {};
  return fail(errc::invalid_argument,
              "Parameter 'max-cpu-throttle' expects an integer in the range of cpu-throttle-initial to 99");
}

}  // namespace

void add_standard_settings(MigrationParameters& parameters, MigrationCapabilities& capabilities) {
  for (ParameterSpec& spec : standard_parameters()) parameters.add(std::move(spec));
  parameters.add_rule(cache_is_a_power_of_two);
  parameters.add_rule(throttle_has_room);
  for (const char* honoured :
       {"xbzrle", "auto-converge", "zero-blocks", "compress", "events", "block", "pause-before-switchover"})
    capabilities.add(honoured);
  for (const char* of_qemu : {"postcopy-ram", "x-colo", "release-ram", "return-path", "multifd",
                              "dirty-bitmaps", "postcopy-blocktime", "late-block-activate", "x-ignore-shared",
                              "validate-uuid", "background-snapshot", "zero-copy-send", "postcopy-preempt"})
    capabilities.add(of_qemu, false, kFixed);
}

}  // namespace ramferry::migration
