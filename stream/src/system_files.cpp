// SPDX-License-Identifier: MIT
#include <ramferry/system_files.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <fstream>
#include <system_error>
#include <utility>

namespace ramferry {
namespace {

constexpr std::size_t kMostBytes = 4 << 20;  // modules.dep of a distribution has less than 1 MiB
constexpr unsigned kIpcLock = 14;            // CAP_IPC_LOCK: its number is ABI

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::optional<std::uint64_t> to_number(std::string_view word, int base = 10) {
  if (word == "max" || word == "unlimited") return kUnlimited;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

/// "rxe2" before "rxe10".
bool counts_before(std::string_view left, std::string_view right) {
  const auto split = [](std::string_view text) {
    const std::size_t digits = text.find_last_not_of("0123456789") + 1;
    return std::pair(text.substr(0, digits), to_number(text.substr(digits)).value_or(0));
  };
  return split(left) < split(right);
}

/// Every line of `text`, in order, until `visit` returns false.
template <class Visit>
void each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (!visit(text.substr(0, end))) return;
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

struct GroupPlace {
  std::string folder;      ///< where the hierarchy is mounted
  std::string_view limit;  ///< the name of the file with the limit
  std::string path;        ///< of this process's group, "/" or "/a/b"
};

/// One for each hierarchy that may limit memory; both versions may be mounted side by side.
std::vector<GroupPlace> memory_groups(const SystemFiles& files) {
  std::vector<GroupPlace> found;
  const std::string text = files.text("/proc/self/cgroup").value_or("");
  each_line(text, [&](std::string_view line) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) return true;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string path(line.substr(second + 1));
    if (controllers.empty()) found.push_back({"/sys/fs/cgroup", "memory.max", path});
    if ((',' + std::string(controllers) + ',').find(",memory,") != std::string::npos)
      found.push_back({"/sys/fs/cgroup/memory", "memory.limit_in_bytes", path});
    return true;
  });
  return found;
}

}  // namespace

std::optional<std::string> SystemFiles::text(std::string_view path) const {
  std::ifstream in(at(path), std::ios::binary);
  if (!in) return std::nullopt;
  std::string all(4096, '\0');
  std::size_t size = 0;
  // Read to the end: such files do not know their size.
  while (in.read(all.data() + size, static_cast<std::streamsize>(all.size() - size)), in.gcount() > 0) {
    size += static_cast<std::size_t>(in.gcount());
    if (size == kMostBytes) break;
    if (size == all.size()) all.resize(std::min(kMostBytes, 2 * size));
  }
  if (in.bad() || (size == 0 && !in.eof())) return std::nullopt;
  all.resize(size);
  return all;
}

std::optional<std::string> SystemFiles::line(std::string_view path) const {
  const auto all = text(path);
  if (!all) return std::nullopt;
  return std::string(trimmed(std::string_view(*all).substr(0, all->find('\n'))));
}

std::optional<std::uint64_t> SystemFiles::number(std::string_view path) const {
  const auto first = line(path);
  if (!first) return std::nullopt;
  return to_number(std::string_view(*first).substr(0, first->find_first_of(" \t")));
}

std::optional<std::string> SystemFiles::field(std::string_view path, std::string_view key) const {
  const auto all = text(path);
  std::optional<std::string> found;
  each_line(all ? std::string_view(*all) : std::string_view(), [&](std::string_view line) {
    if (line.substr(0, key.size()) != key) return true;
    const std::string_view rest = line.substr(key.size());
    const std::size_t start = rest.find_first_not_of(" \t");
    // "Max locked memory" must not be found by "Max lock".
    const bool whole_key = start == rest.npos || start > 0 || rest[0] == ':';
    if (!whole_key) return true;
    const std::size_t colon = start == rest.npos || rest[start] != ':' ? 0 : start + 1;
    found = trimmed(rest.substr(colon));
    return false;
  });
  return found;
}

std::vector<std::string> SystemFiles::list(std::string_view folder) const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator each(at(folder), error), end; !error && each != end;
       each.increment(error))
    names.push_back(each->path().filename().string());
  std::sort(names.begin(), names.end(), counts_before);
  return names;
}

bool SystemFiles::exists(std::string_view path) const {
  std::error_code error;
  return std::filesystem::exists(at(path), error);
}

bool SystemFiles::may_open(std::string_view path) const {
  return ::faccessat(AT_FDCWD, at(path).c_str(), R_OK | W_OK, AT_EACCESS) == 0;
}

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  constexpr std::string_view kBlanks = " \t\r\n";
  for (std::size_t start = line.find_first_not_of(kBlanks); start != line.npos;) {
    const std::size_t end = std::min(line.find_first_of(kBlanks, start), line.size());
    words.emplace_back(line.substr(start, end - start));
    start = line.find_first_not_of(kBlanks, end);
  }
  return words;
}

LockLimit lock_limit(const SystemFiles& files) {
  LockLimit limit;
  const auto words = words_of(files.field("/proc/self/limits", "Max locked memory").value_or(""));
  if (words.size() >= 2) {
    limit.soft = to_number(words[0]).value_or(kUnlimited);
    limit.hard = to_number(words[1]).value_or(kUnlimited);
  }
  const auto capabilities = to_number(files.field("/proc/self/status", "CapEff").value_or(""), 16);
  limit.exempt = capabilities && ((*capabilities >> kIpcLock) & 1) != 0;
  return limit;
}

std::optional<GroupLimit> group_memory_limit(const SystemFiles& files) {
  constexpr std::uint64_t kFirstVersionUnlimited = 1ULL << 62;  // it says 2^63 less a page
  GroupLimit least;
  for (const GroupPlace& place : memory_groups(files)) {
    // A group that cannot be seen from inside a container still has visible ancestors.
    for (std::filesystem::path path = place.path;; path = path.parent_path()) {
      const std::string file =
          place.folder + (path == "/" ? "" : path.string()) + '/' + std::string(place.limit);
      const auto bytes = files.number(file);
      if (bytes && *bytes < kFirstVersionUnlimited && *bytes < least.bytes) least = {*bytes, file};
      if (path == path.parent_path()) break;
    }
  }
  if (least.bytes == kUnlimited) return std::nullopt;
  return least;
}

}  // namespace ramferry
