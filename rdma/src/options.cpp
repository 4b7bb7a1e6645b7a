// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <algorithm>
#include <array>

namespace ramferry::rdma {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLeastChunk = 64ULL << 10;
constexpr std::uint64_t kUsualBudget = 1ULL << 30;
constexpr std::uint64_t kOwnBytes = 2ULL << 20;  // about what a channel registers for its messages and fences

constexpr std::array<OptionSpec, 10> kSpecs{{
    {"dialect", "auto|native|qemu", "what is spoken; auto finds out"},
    {"pin", "all|demand", "register all memory in the background, or chunks as they are needed"},
    {"pin-budget", "SIZE", "pin=demand: register at most this much at a time"},
    {"lanes", "1-64", "data connections; the source decides (4)"},
    {"chunk", "SIZE", "registered in pieces of this size (16M)"},
    {"window", "SIZE", "bytes in flight on each lane (4M)"},
    {"device", "NAME", "use this RDMA device or fail"},
    {"ack-timeout", "8-31", "a packet is repeated after 4.096 us * 2^n (16: 268 ms)"},
    {"retries", "0-6", "of a packet until the link is given up (6)"},
    {"peer-timeout", "1-3600", "seconds of silence after which the other end counts as gone (10)"},
}};

constexpr std::array<std::string_view, 3> kDialects{"auto", "native", "qemu"};
constexpr std::array<std::string_view, 2> kPins{"all", "demand"};

Result<std::uint64_t> size_at_least(const Endpoint& endpoint, std::string_view name, std::uint64_t least,
                                    std::uint64_t otherwise) {
  RAMFERRY_TRY_ASSIGN(const std::uint64_t value, size_option(endpoint, name, otherwise));
  if (value < least && value != otherwise)
    return fail(errc::invalid_argument, "reading " + endpoint.to_string() + ": " + std::string(name) +
                                            " is " + format_size(value) + ", and at least " +
                                            format_size(least) + " is allowed");
  return value / kPage * kPage;
}

}  // namespace

std::span<const OptionSpec> option_specs() noexcept {
  return kSpecs;
}

Result<Options> parse_options(const Endpoint& endpoint) {
  Options options;
  RAMFERRY_TRY_ASSIGN(const std::size_t dialect, choice_option(endpoint, "dialect", kDialects, 0));
  options.dialect = static_cast<Dialect>(dialect);
  RAMFERRY_TRY_ASSIGN(const std::size_t pin, choice_option(endpoint, "pin", kPins, 0));
  options.pin = static_cast<Pin>(pin);
  RAMFERRY_TRY_ASSIGN(options.pin_budget, size_at_least(endpoint, "pin-budget", 4 * kLeastChunk, 0));
  if (options.pin_budget != 0 && options.pin == Pin::all)
    return fail(errc::invalid_argument, "reading " + endpoint.to_string() + ": pin-budget needs pin=demand");
  RAMFERRY_TRY_ASSIGN(const std::uint64_t lanes,
                      number_option(endpoint, "lanes", 1, kMostLanes, options.lanes));
  options.lanes = static_cast<std::uint32_t>(lanes);
  RAMFERRY_TRY_ASSIGN(options.chunk, size_at_least(endpoint, "chunk", kLeastChunk, options.chunk));
  RAMFERRY_TRY_ASSIGN(options.window, size_at_least(endpoint, "window", kLeastChunk, options.window));
  RAMFERRY_TRY_ASSIGN(const std::uint64_t timeout,
                      number_option(endpoint, "ack-timeout", 8, 31, options.link.ack_timeout));
  options.link.ack_timeout = static_cast<std::uint8_t>(timeout);
  RAMFERRY_TRY_ASSIGN(const std::uint64_t retries,
                      number_option(endpoint, "retries", 0, 6, options.link.retries));
  options.link.retries = static_cast<std::uint8_t>(retries);
  RAMFERRY_TRY_ASSIGN(const std::uint64_t peer_timeout,
                      number_option(endpoint, "peer-timeout", kLeastPeerTimeout, kMostPeerTimeout, 10));
  options.peer_timeout = std::chrono::seconds(peer_timeout);
  if (const auto device = endpoint.options.find("device"); device != endpoint.options.end())
    options.link.device = device->second;
  return options;
}

PinPlan plan_pinning(const Options& options, const DeviceFacts& device) noexcept {
  PinPlan plan;
  plan.chunk = std::min(options.chunk, device.max_region_bytes / kPage * kPage);
  if (options.pin == Pin::all) return plan;
  const std::uint64_t lockable = device.lockable_bytes - std::min(device.lockable_bytes, kOwnBytes);
  const std::uint64_t suggested =
      device.lockable_bytes == ~0ULL ? kUsualBudget : lockable / 5 * 3 / kPage * kPage;
  // Whatever was asked for: with the staging beside it, of a quarter at most, it has to fit.
  const std::uint64_t most = device.lockable_bytes == ~0ULL ? ~0ULL : lockable / 5 * 4 / kPage * kPage;
  const std::uint64_t wanted = options.pin_budget != 0 ? options.pin_budget : suggested;
  plan.budget = std::max(std::min(wanted, most), 4 * kLeastChunk);
  plan.chunk = std::clamp(plan.budget / 4 / kPage * kPage, kLeastChunk, plan.chunk);
  plan.staging = std::clamp(plan.budget / 4, kLeastChunk * 4, plan.staging);
  return plan;
}

}  // namespace ramferry::rdma
