// SPDX-License-Identifier: MIT
#include <ramferry/endpoint.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace ramferry {
namespace {

constexpr std::string_view kExamples = "e.g. tcp:host:port, unix:/path, file:/path, exec:command or fd:N";

bool is_letter(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

Failure bad_address(std::string_view uri, std::string_view why, std::string advice = {}) {
  return fail(errc::invalid_argument, "reading the address " + quoted(uri) + ": " + std::string(why),
              std::move(advice));
}

bool has_host_and_port(std::string_view scheme) noexcept {
  return std::find(kHostPortSchemes.begin(), kHostPortSchemes.end(), scheme) != kHostPortSchemes.end();
}

/// All of `text` as a decimal number; nothing for signs, blanks, other bases or more than 64 bits.
std::optional<std::uint64_t> decimal(std::string_view text) noexcept {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, problem] = std::from_chars(text.data(), end, value);
  if (text.empty() || problem != std::errc{} || stopped != end) return std::nullopt;
  return value;
}

std::optional<unsigned> hex_digit(char c) noexcept {
  if (is_digit(c)) return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  return std::nullopt;
}

/// %XX in a path → the byte.
Result<std::string> unescape(std::string_view uri, std::string_view escaped) {
  std::string plain;
  for (std::size_t at = 0; at < escaped.size(); ++at) {
    if (escaped[at] != '%') {
      plain += escaped[at];
      continue;
    }
    const auto high = at + 1 < escaped.size() ? hex_digit(escaped[at + 1]) : std::nullopt;
    const auto low = at + 2 < escaped.size() ? hex_digit(escaped[at + 2]) : std::nullopt;
    if (!high || !low)
      return bad_address(uri, "'%' without two hexadecimal digits after it", "write '%' as %25");
    plain += static_cast<char>(*high << 4 | *low);
    at += 2;
  }
  if (plain.find('\0') != std::string::npos) return bad_address(uri, "a path cannot contain a zero byte");
  return plain;
}

std::string escape(std::string_view plain) {
  std::string escaped;
  for (const char c : plain) {
    if (c == '%')
      escaped += "%25";
    else if (c == '?')
      escaped += "%3F";
    else
      escaped += c;
  }
  return escaped;
}

bool is_ipv6(std::string_view text) {
  const std::string address(text.substr(0, text.find('%')));
  const bool scope_is_fine = text.find('%') != text.size() - 1;
  in6_addr ignored{};
  return scope_is_fine && inet_pton(AF_INET6, address.c_str(), &ignored) == 1;
}

/// "[::1]:4444" or "host:4444" → the two sides of the last colon, the host still in its brackets.
Result<std::pair<std::string_view, std::string_view>> split_port(std::string_view uri,
                                                                 std::string_view rest) {
  const std::string form = "write " + std::string(uri.substr(0, uri.find(':'))) + ":host:port";
  if (rest.starts_with("//")) return bad_address(uri, "there are no slashes before the host", form);
  const std::size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  if (bracket == std::string_view::npos) return bad_address(uri, "the ']' after the IPv6 address is missing");
  const std::size_t colon = rest.find(':', bracket);
  if (colon == std::string_view::npos) return bad_address(uri, "the port is missing", form);
  if (rest.find(':', colon + 1) != std::string_view::npos)
    return bad_address(uri, "too many colons", form + ", an IPv6 host in brackets");
  return std::pair(rest.substr(0, colon), rest.substr(colon + 1));
}

Result<> parse_host_and_port(std::string_view uri, std::string_view rest, Endpoint& into) {
  RAMFERRY_TRY_ASSIGN(const auto sides, split_port(uri, rest));
  std::string_view host = sides.first;
  if (host.starts_with('[')) {
    if (!host.ends_with(']')) return bad_address(uri, "only a colon and the port may follow the ']'");
    host = host.substr(1, host.size() - 2);
    if (!is_ipv6(host)) return bad_address(uri, quoted(host) + " is not an IPv6 address");
  } else if (const auto odd = std::find_if(host.begin(), host.end(),
                                           [](char c) {
                                             return static_cast<unsigned char>(c) <= ' ' || c == 0x7f ||
                                                    std::string_view("/[]@,%&=\\\"'").find(c) !=
                                                        std::string_view::npos;
                                           });
             odd != host.end()) {
    return bad_address(uri, "a host name cannot contain " + quoted(std::string_view(&*odd, 1)));
  }
  const auto port = decimal(sides.second);
  if (!port || *port > 0xffff)
    return bad_address(uri, "the port " + quoted(sides.second) + " is not a number from 0 to 65535",
                       sides.second.find(',') == std::string_view::npos
                           ? ""
                           : "options are written ?name=value&name=value after the port");
  into.host = host;
  into.port = static_cast<std::uint16_t>(*port);
  return {};
}

bool is_option_name(std::string_view name) noexcept {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return is_letter(c) || is_digit(c) || c == '-' || c == '_' || c == '.';
  });
}

Result<> parse_options(std::string_view uri, std::string_view text, Endpoint& into) {
  static constexpr const char* kForm = "write ?name=value&name=value";
  for (bool more = true; more;) {
    const std::size_t end = text.find('&');
    const std::string_view option = text.substr(0, end);
    more = end != std::string_view::npos;
    if (more) text.remove_prefix(end + 1);

    const std::size_t equals = option.find('=');
    const std::string_view name = option.substr(0, equals);
    if (!is_option_name(name)) return bad_address(uri, quoted(name) + " is not the name of an option", kForm);
    if (equals == std::string_view::npos || equals + 1 == option.size())
      return bad_address(uri, "the option " + quoted(name) + " has no value", kForm);
    if (!into.options.emplace(name, option.substr(equals + 1)).second)
      return bad_address(uri, "the option " + quoted(name) + " is given twice");
  }
  return {};
}

Failure bad_value(const Endpoint& endpoint, std::string_view name, std::string_view value,
                  const std::string& allowed) {
  return fail(errc::invalid_argument,
              "reading the address " + quoted(endpoint.to_string()) + ": the option " + quoted(name) +
                  " cannot be " + quoted(value),
              "it takes " + allowed);
}

const std::string* find_option(const Endpoint& endpoint, std::string_view name) {
  const auto found = endpoint.options.find(name);
  return found == endpoint.options.end() ? nullptr : &found->second;
}

/// "KiB" → 10; nothing if it is no unit.
std::optional<unsigned> unit_shift(std::string_view unit) noexcept {
  if (unit.empty() || unit == "B") return 0;
  static constexpr std::string_view kLetters = "KMGT";
  const char letter =
      unit.front() >= 'a' && unit.front() <= 'z' ? static_cast<char>(unit.front() - 'a' + 'A') : unit.front();
  const std::size_t index = kLetters.find(letter);
  const std::string_view rest = unit.substr(1);
  if (index == std::string_view::npos || !(rest.empty() || rest == "iB" || rest == "B")) return std::nullopt;
  return static_cast<unsigned>(10 * (index + 1));
}

/// The digits after the point, scaled by 2^shift and rounded down.
std::optional<std::uint64_t> scaled_fraction(std::string_view digits, unsigned shift) noexcept {
  constexpr std::size_t kMostDigits = 6;  // 10^6 << 40 fits 64 bits
  const auto value = decimal(digits);
  if (!value || digits.size() > kMostDigits || shift == 0) return std::nullopt;
  std::uint64_t divisor = 1;
  for (std::size_t i = 0; i < digits.size(); ++i) divisor *= 10;
  return (*value << shift) / divisor;
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view uri) {
  const std::size_t colon = uri.find(':');
  const std::string_view scheme = uri.substr(0, colon);
  const bool is_scheme = !scheme.empty() && is_letter(scheme.front()) && is_option_name(scheme);
  if (colon == std::string_view::npos || !is_scheme)
    return bad_address(uri, "it does not begin with a scheme and a colon", std::string(kExamples));

  Endpoint endpoint;
  endpoint.scheme = scheme;
  std::string_view rest = uri.substr(colon + 1);
  if (scheme == "exec") {
    if (rest.empty()) return bad_address(uri, "the command is missing");
    endpoint.target = rest;
    return endpoint;
  }
  if (const std::size_t mark = rest.find('?'); mark != std::string_view::npos) {
    RAMFERRY_TRY(parse_options(uri, rest.substr(mark + 1), endpoint));
    rest = rest.substr(0, mark);
  }
  if (has_host_and_port(scheme)) {
    RAMFERRY_TRY(parse_host_and_port(uri, rest, endpoint));
  } else if (scheme == "fd") {
    if (rest.empty()) return bad_address(uri, "the number or name of the descriptor is missing");
    endpoint.target = rest;
  } else {
    RAMFERRY_TRY_ASSIGN(endpoint.target, unescape(uri, rest));
    if (endpoint.target.empty()) return bad_address(uri, "the path is missing");
  }
  return endpoint;
}

std::string Endpoint::to_string() const {
  std::string uri = scheme + ":";
  if (has_host_and_port(scheme)) {
    uri += host.find(':') == std::string::npos ? host : "[" + host + "]";
    uri += ":" + std::to_string(port);
  } else {
    uri += scheme == "exec" || scheme == "fd" ? target : escape(target);
  }
  char before = '?';
  for (const auto& [name, value] : options) {
    uri.append(1, before).append(name).append(1, '=').append(value);
    before = '&';
  }
  return uri;
}

Result<> check_options(const Endpoint& endpoint, std::span<const OptionSpec> known) {
  for (const auto& [name, value] : endpoint.options) {
    const auto same = [&wanted = name](const OptionSpec& spec) { return spec.name == wanted; };
    if (std::any_of(known.begin(), known.end(), same)) continue;
    std::string list;
    for (const OptionSpec& spec : known) {
      list += (list.empty() ? "known are " : ", ") + std::string(spec.name);
      if (!spec.values.empty()) list += "=" + std::string(spec.values);
    }
    return fail(errc::invalid_argument,
                "reading the address " + quoted(endpoint.to_string()) + ": unknown option " + quoted(name),
                list.empty() ? endpoint.scheme + ": takes no options" : list);
  }
  return {};
}

Result<std::uint64_t> number_option(const Endpoint& endpoint, std::string_view name, std::uint64_t low,
                                    std::uint64_t high, std::uint64_t otherwise) {
  const std::string* text = find_option(endpoint, name);
  if (text == nullptr) return otherwise;
  const auto value = decimal(*text);
  if (!value || *value < low || *value > high)
    return bad_value(endpoint, name, *text,
                     "a number from " + std::to_string(low) + " to " + std::to_string(high));
  return *value;
}

Result<std::uint64_t> size_option(const Endpoint& endpoint, std::string_view name, std::uint64_t otherwise) {
  const std::string* text = find_option(endpoint, name);
  if (text == nullptr) return otherwise;
  const auto value = parse_size(*text);
  if (!value) return bad_value(endpoint, name, *text, "a size such as 65536, 64K or 1.5G");
  return *value;
}

Result<std::size_t> choice_option(const Endpoint& endpoint, std::string_view name,
                                  std::span<const std::string_view> choices, std::size_t otherwise) {
  const std::string* text = find_option(endpoint, name);
  if (text == nullptr) return otherwise;
  const auto found = std::find(choices.begin(), choices.end(), *text);
  if (found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
  std::string list;
  for (const std::string_view each : choices) list += (list.empty() ? "" : ", ") + std::string(each);
  return bad_value(endpoint, name, *text, "one of " + list);
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return fail(errc::invalid_argument, "reading the size " + quoted(text) + ": " + std::string(why),
                "write a number such as 65536, 64K or 1.5G");
  };
  const auto end_of_number = [](char c) { return !is_digit(c) && c != '.'; };
  const auto unit_at = std::find_if(text.begin(), text.end(), end_of_number);
  const std::string_view number = text.substr(0, static_cast<std::size_t>(unit_at - text.begin()));
  const auto shift = unit_shift(text.substr(number.size()));
  if (!shift) return wrong("the unit is none of K, M, G, T");

  const std::size_t point = number.find('.');
  const auto whole = decimal(number.substr(0, point));
  if (!whole) return wrong("it does not begin with a number of at most 64 bits");
  if (*whole > UINT64_MAX >> *shift) return wrong("it does not fit 64 bits");
  std::uint64_t bytes = *whole << *shift;
  if (point != std::string_view::npos) {
    const auto fraction = scaled_fraction(number.substr(point + 1), *shift);
    if (!fraction) return wrong("a fraction needs a unit and at most six digits");
    bytes += *fraction;  // less than one unit, and `bytes` is a whole number of units: no overflow
  }
  return bytes;
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 6> kUnits = {" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double scaled = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (scaled >= 1023.95) {  // what would print as 1024.0 belongs to the next unit
    scaled /= 1024;
    ++unit;
  }
  const auto tenths = std::llround(scaled * 10);
  const std::string fraction = tenths % 10 == 0 ? "" : "." + std::to_string(tenths % 10);
  return std::to_string(tenths / 10) + fraction + std::string(kUnits[unit]);
}

}  // namespace ramferry
