// SPDX-License-Identifier: MIT
#include "fuzz/corpus.hpp"

#include <charconv>
#include <fstream>

namespace ramferry::fuzz {
namespace {

constexpr std::size_t kWorthCounting = 4, kMostRepeats = 1 << 20;

void append_byte(std::string& line, std::byte byte) {
  const auto c = std::to_integer<unsigned char>(byte);
  if (c == ' ') {
    line += "\\s";
  } else if (c == '\\' || c == '{' || (c == '#' && line.empty())) {
    line += {'\\', static_cast<char>(c)};
  } else if (c > ' ' && c < 0x7f) {
    line += static_cast<char>(c);
  } else {
    constexpr std::string_view kDigits = "0123456789abcdef";
    line += {'\\', 'x', kDigits[c >> 4], kDigits[c & 15]};
  }
}

std::optional<std::uint64_t> take_number(std::string_view& rest, std::size_t most_digits, int base) {
  std::uint64_t value = 0;
  const char* const end = rest.data() + std::min(rest.size(), most_digits);
  const auto [after, error] = std::from_chars(rest.data(), end, value, base);
  if (error != std::errc{}) return std::nullopt;
  rest.remove_prefix(static_cast<std::size_t>(after - rest.data()));
  return value;
}

/// What follows a backslash.
std::optional<std::byte> take_escaped(std::string_view& rest) {
  if (rest.empty()) return std::nullopt;
  const char kind = rest[0];
  rest.remove_prefix(1);
  if (kind == 's') return std::byte{' '};
  if (kind == 'x') {
    const auto value = take_number(rest, 2, 16);
    return value ? std::optional(static_cast<std::byte>(*value)) : std::nullopt;
  }
  return kind == '\\' || kind == '{' || kind == '#' ? std::optional(static_cast<std::byte>(kind))
                                                    : std::nullopt;
}

/// What follows an opening brace: how often the last byte is there.
bool take_repeats(std::string_view& rest, Input& into) {
  const auto count = take_number(rest, 8, 10);
  if (!count || *count == 0 || *count > kMostRepeats || into.empty() || rest.empty() || rest[0] != '}')
    return false;
  rest.remove_prefix(1);
  into.insert(into.end(), *count - 1, into.back());
  return true;
}

}  // namespace

std::string to_line(ConstBytes input) {
  std::string line;
  for (std::size_t at = 0; at < input.size();) {
    std::size_t count = 1;
    while (at + count < input.size() && input[at + count] == input[at]) ++count;
    const bool counted = count >= kWorthCounting;
    for (std::size_t i = 0; i < (counted ? 1 : count); ++i) append_byte(line, input[at]);
    if (counted) line += "{" + std::to_string(count) + "}";
    at += count;
  }
  return line;
}

std::optional<Input> from_line(std::string_view line) {
  Input input;
  while (!line.empty()) {
    const char c = line[0];
    line.remove_prefix(1);
    if (c == '{') {
      if (!take_repeats(line, input)) return std::nullopt;
      continue;
    }
    const auto byte = c == '\\' ? take_escaped(line) : std::optional(static_cast<std::byte>(c));
    if (!byte) return std::nullopt;
    input.push_back(*byte);
  }
  return input;
}

std::vector<Input> read_corpus(const std::string& path) {
  std::vector<Input> all;
  std::ifstream file(path);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    auto input = from_line(line);
    if (!input) {
      std::fprintf(stderr, "%s:%d: not an input (tests/fuzz/corpus.hpp)\n", path.c_str(), number);
      std::exit(2);
    }
    all.push_back(std::move(*input));
  }
  return all;
}

}  // namespace ramferry::fuzz
