// SPDX-License-Identifier: MIT
// ramferry inspect: what is in a file that a migration was written to, or in a checkpoint.
#include "checkpoint_map.hpp"
#include "command.hpp"
#include "stream_map.hpp"

#include <ramferry/unique_fd.hpp>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>

namespace ramferry::cli {
namespace {

struct Options {
  std::string path;
  bool as_json = false, verify = false;
};

/// A file's bytes, mapped while this lives.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path) {
    const std::string doing = "reading '" + path + "'";
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info {};
    if (!fd || fstat(fd.get(), &info) != 0) return fail_errno(errno, doing);
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size == 0) return fail(errc::protocol_mismatch, doing + ": it is empty");
    void* at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (at == MAP_FAILED) return fail_errno(errno, doing);
    return MappedFile(ConstBytes(static_cast<const std::byte*>(at), size));
  }
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile() {
    if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  ConstBytes bytes() const noexcept { return bytes_; }

 private:
  explicit MappedFile(ConstBytes bytes) noexcept : bytes_(bytes) {}
  ConstBytes bytes_;
};

Result<> inspect_checkpoint(const Options& options) {
  RAMFERRY_TRY_ASSIGN(const auto file, checkpoint::CheckpointFile::open(options.path));
  if (options.verify) RAMFERRY_TRY(file.verify());
  RAMFERRY_TRY_ASSIGN(const CheckpointMap map, map_checkpoint(file));
  if (options.as_json) {
    nlohmann::json told = to_json(map);
    if (options.verify) told["checked-pages"] = file.stored_pages();
    fmt::print("{}\n", told.dump(2, ' ', true, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}", describe(map));
    if (options.verify) fmt::print("\nchecked     {} pages, all as they were kept\n", file.stored_pages());
  }
  return {};
}

Result<> inspect(const Options& options) {
  RAMFERRY_TRY_ASSIGN(const bool is_checkpoint, checkpoint::CheckpointFile::is_checkpoint(options.path));
  if (is_checkpoint) return inspect_checkpoint(options);
  if (options.verify)
    return said(errc::invalid_argument, options.path + ": a plain stream has no checksums",
                "leave --verify away; 'ramferry receive' makes a checkpoint of it");
  RAMFERRY_TRY_ASSIGN(const MappedFile file, MappedFile::open(options.path));
  const auto map = map_stream(file.bytes());
  if (!map) return within(map.error(), options.path);
  if (options.as_json) {
    fmt::print("{}\n", to_json(*map).dump(2, ' ', true, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}", describe(*map));
  }
  return {};
}

}  // namespace

void add_inspect_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Tells what is in a migration stream, ours or a QEMU's, or in a checkpoint");
  command->footer(
      "Example:\n"
      "  ramferry inspect /var/lib/vm/web.ckpt\n"
      "And every page against its checksum:\n"
      "  ramferry inspect --verify /var/lib/vm/web.ckpt");
  command->add_option("file", options->path, "A file that 'migrate file:…' or 'ramferry receive' wrote")
      ->required();
  command->add_flag("--verify", options->verify, "Check every page of a checkpoint against its checksum");
  command->add_flag("--json", options->as_json, "Machine-readable output");
  command->callback([options, &action] {
    action = [options] {
      const auto done = inspect(*options);
      return done ? kDone : report_failure(done.error());
    };
  });
}

}  // namespace ramferry::cli
