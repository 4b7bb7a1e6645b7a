// SPDX-License-Identifier: MIT
// Addresses as users type them: QEMU's URIs, with options after '?'.
//
//   tcp:host:port  rdma:host:port   host may be empty (listen on all), a name, IPv4, or [IPv6]; port 0 asks
//                                   a listener for a free one
//   unix:/path     file:/path       a '?' inside the path is written %3F, a '%' %25
//   exec:command                    everything after the colon, '?' included, is the shell command
//   fd:N           fd:name          a descriptor number, or a name given earlier by `getfd`
//   …?name=value&name=value         e.g. rdma:10.0.0.7:4444?pin=all&lanes=4; all but exec: take options
//
// An unknown scheme is read like unix:, so that a program may add transports of its own to its catalogue.
#pragma once

#include <ramferry/error.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ramferry {

/// What follows these is a host and a port.
inline constexpr std::array<std::string_view, 2> kHostPortSchemes = {"tcp", "rdma"};

struct Endpoint {
  std::string scheme;
  std::string host;        ///< tcp, rdma; without brackets
  std::uint16_t port = 0;  ///< tcp, rdma
  std::string target;      ///< unix, file: the path; exec: the command; fd: the number or name
  std::map<std::string, std::string, std::less<>> options;

  /// Checks the grammar only; whether the scheme is spoken here is the catalogue's answer.
  static Result<Endpoint> parse(std::string_view uri);
  /// The URI again; parse(to_string()) gives an equal endpoint.
  std::string to_string() const;
  bool operator==(const Endpoint&) const = default;
};

/// One option that a transport understands, as shown in --help and in the error for an unknown one.
struct OptionSpec {
  std::string_view name;    ///< "lanes"
  std::string_view values;  ///< "1-64"
  std::string_view meaning;
};

/// errc::invalid_argument naming the option and listing the known ones, unless all of `endpoint`'s are known.
Result<> check_options(const Endpoint& endpoint, std::span<const OptionSpec> known);

/// Values of options, checked: an error names the option, what was given and what is allowed.
Result<std::uint64_t> number_option(const Endpoint& endpoint, std::string_view name, std::uint64_t low,
                                    std::uint64_t high, std::uint64_t otherwise);
/// A size such as 65536, 64K, 1.5G (powers of 1024).
Result<std::uint64_t> size_option(const Endpoint& endpoint, std::string_view name, std::uint64_t otherwise);
/// Index into `choices`.
Result<std::size_t> choice_option(const Endpoint& endpoint, std::string_view name,
                                  std::span<const std::string_view> choices, std::size_t otherwise);

/// "64K", "1.5G", "4096" → bytes, powers of 1024, rounded down; K, M, G, T, an optional "iB" or "B" after
/// them.
Result<std::uint64_t> parse_size(std::string_view text);
/// 1610612736 → "1.5 GiB": at most one decimal, rounded.
std::string format_size(std::uint64_t bytes);

}  // namespace ramferry
