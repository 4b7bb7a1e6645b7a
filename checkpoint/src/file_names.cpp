// SPDX-License-Identifier: MIT
#include "file_names.hpp"

#include "file_io.hpp"

#include <ramferry/byte_stream.hpp>
#include <ramferry/checkpoint/checkpoint_file.hpp>
#include <ramferry/checkpoint/receiver.hpp>
#include <ramferry/endpoint.hpp>
#include <ramferry/partial_file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <system_error>
#include <vector>

namespace ramferry::checkpoint {
namespace {

constexpr std::string_view kWorking = ".receiving-", kPartial = ".partial";
constexpr int kMostNames = 10'000;
constexpr std::size_t kMostMachineName = 64;

/// -1 and errno, as the calls that it makes. A file system has the one or the other, few have neither.
int rename_if_free(const char* from, const char* to) {
  if (::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) return -1;
  // A link does not replace what is there either.
  if (::link(from, to) != 0) return -1;
  static_cast<void>(::unlink(from));
  return 0;
}

std::string timestamp(std::time_t when) {
  std::tm parts{};
  ::gmtime_r(&when, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts);
  return text.data();
}

/// Sealed, and then its receive was killed: whose the guest is cannot be told.
void name_unconfirmed(const std::filesystem::path& partial, Log& log) {
  const auto file = CheckpointFile::open(partial);
  if (!file) return log.warn("left alone: " + file.error().message());
  const auto named = rename_to_free(
      partial, stem_in(partial.parent_path(), file->head().machine, file->head().taken), ".ckpt.unconfirmed");
  if (!named) return log.warn("left alone: " + named.error().message());
  log.warn("a receive was killed when its machine had arrived: it is kept as " + named->string() +
           "; ask the source whether it still runs it, and send that file only if it does not");
}

void remove_left_over(const std::filesystem::path& partial, Log& log) {
  const UniqueFd fd = lock_left_over(partial.string());
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return;
  if ((status.st_mode & S_IWUSR) == 0) return;  // complete, see PartialFile::stranded()
  const auto sealed = CheckpointFile::is_checkpoint(partial);
  if (!sealed) return;
  if (*sealed) return name_unconfirmed(partial, log);
  if (::unlink(partial.c_str()) != 0) return;
  log.warn("removed " + partial.string() + " of " + format_size(static_cast<std::uint64_t>(status.st_size)) +
           ", left by a receive that was killed");
}

}  // namespace

std::filesystem::path working_path_in(const std::filesystem::path& folder) {
  static std::atomic<unsigned> count = 0;
  for (;;) {
    auto path = folder / (std::string(kWorking) + std::to_string(::getpid()) + "-" + std::to_string(++count));
    std::error_code ignored;
    // Of an earlier program with our number.
    if (!std::filesystem::exists(path.string() + std::string(kPartial), ignored)) return path;
  }
}

std::filesystem::path stem_in(const std::filesystem::path& folder, const std::string& machine,
                              std::time_t when) {
  std::string name = machine;
  const auto odd = [](unsigned char c) { return std::isalnum(c) == 0 && c != '-' && c != '.' && c != '_'; };
  std::replace_if(name.begin(), name.end(), odd, '_');
  if (name.empty() || name.front() == '.') name.insert(0, "machine");
  return folder / (name.substr(0, kMostMachineName) + "-" + timestamp(when));
}

Result<std::filesystem::path> rename_to_free(const std::filesystem::path& from,
                                             const std::filesystem::path& stem, const std::string& ending) {
  for (int number = 1; number <= kMostNames; ++number) {
    std::filesystem::path to = stem;
    to += (number == 1 ? "" : "-" + std::to_string(number)) + ending;
    if (rename_if_free(from.c_str(), to.c_str()) == 0) return to;
    if (errno != EEXIST) return fail_errno(errno, "renaming " + from.string() + " to " + to.string());
  }
  return fail(errc::in_use, "finding a free name for " + from.string(),
              "move the files that are called " + stem.string() + "-…" + ending + " elsewhere");
}

void tidy_folder(const std::filesystem::path& folder, Log& log) {
  std::vector<std::filesystem::path> left;
  std::error_code problem;
  for (std::filesystem::directory_iterator at(folder, problem), end; !problem && at != end;
       at.increment(problem)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with(kWorking) && name.ends_with(kPartial)) left.push_back(at->path());
  }
  for (const auto& partial : left) remove_left_over(partial, log);
}

}  // namespace ramferry::checkpoint
