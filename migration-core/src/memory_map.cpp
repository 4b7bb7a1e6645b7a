// SPDX-License-Identifier: MIT
#include "memory_map.hpp"

#include <ramferry/unique_fd.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>

namespace ramferry::migration {
namespace {

/// Fields of a line, one after another; a missing or malformed one fails for good.
class Fields {
 public:
  explicit Fields(std::string_view line) noexcept : rest_(line) {}

  std::uint64_t number(int base, char end) noexcept {
    std::uint64_t value = 0;
    const auto [at, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
    rest_.remove_prefix(static_cast<std::size_t>(at - rest_.data()));
    ok_ = ok_ && error == std::errc() && !rest_.empty() && rest_.front() == end;
    if (!rest_.empty()) rest_.remove_prefix(1);
    return value;
  }
  std::string_view word() noexcept {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size()));
    const std::string_view word = rest_.substr(0, rest_.find(' '));
    rest_.remove_prefix(std::min(word.size() + 1, rest_.size()));
    return word;
  }
  bool ok() const noexcept { return ok_; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

/// "7f0000000000-7f0000001000 rw-p 00000000 00:01 1026 /memfd:x (deleted)"
bool parse(std::string_view line, Mapping& mapping) noexcept {
  constexpr int kHex = 16, kDecimal = 10;
  Fields fields(line);
  mapping.begin = fields.number(kHex, '-');
  mapping.end = fields.number(kHex, ' ');
  const std::string_view rights = fields.word();
  mapping.offset = fields.number(kHex, ' ');
  fields.word();  // the device
  mapping.inode = fields.number(kDecimal, ' ');
  mapping.shared = rights.ends_with('s');
  // Anonymous huge pages are, inside the kernel, those of a file of that name.
  mapping.anonymous = !mapping.shared && (mapping.inode == 0 || fields.word() == "/anon_hugepage");
  return fields.ok() && rights.size() == 4;
}

/// The lines of /proc/self/maps, read no further than asked for.
class MapLines {
 public:
  bool next(std::string& line) {
    line.clear();
    for (;;) {
      const auto end = std::find(unread_.begin(), unread_.end(), '\n');
      line.append(unread_.begin(), end);
      const bool whole = end != unread_.end();
      unread_.remove_prefix(static_cast<std::size_t>(end - unread_.begin()) + (whole ? 1 : 0));
      if (whole) return true;
      const ssize_t got = read(file_.get(), buffer_.data(), buffer_.size());
      if (got <= 0) return false;
      unread_ = std::string_view(buffer_.data(), static_cast<std::size_t>(got));
    }
  }

 private:
  UniqueFd file_{open("/proc/self/maps", O_RDONLY | O_CLOEXEC)};
  std::array<char, 4096> buffer_;
  std::string_view unread_;
};

}  // namespace

std::vector<Mapping> mappings_of(ConstBytes memory) {
  auto at = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(memory.data()));  // NOLINT
  const std::uint64_t end = at + memory.size();
  MapLines lines;
  std::vector<Mapping> found;
  std::string line;
  Mapping mapping;
  while (at < end && lines.next(line)) {
    if (!parse(line, mapping) || mapping.end <= at) continue;
    if (mapping.begin > at) break;
    found.push_back(mapping);
    at = mapping.end;
  }
  if (at < end) found.clear();
  return found;
}

bool is_private(ConstBytes memory) {
  const std::vector<Mapping> mappings = mappings_of(memory);
  return !mappings.empty() && std::none_of(mappings.begin(), mappings.end(),
                                           [](const Mapping& mapping) { return mapping.shared; });
}

bool is_private_anonymous(ConstBytes memory) {
  const std::vector<Mapping> mappings = mappings_of(memory);
  return !mappings.empty() && std::all_of(mappings.begin(), mappings.end(),
                                          [](const Mapping& mapping) { return mapping.anonymous; });
}

}  // namespace ramferry::migration
