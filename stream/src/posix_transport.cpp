// SPDX-License-Identifier: MIT
#include "posix/cancel_event.hpp"
#include "posix/exec_stream.hpp"
#include "posix/fd_stream.hpp"
#include "posix/file_stream.hpp"

#include <ramferry/posix_transport.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>

namespace ramferry {
namespace {

using Stream = std::unique_ptr<ByteStream>;
using MakeStream = std::function<Result<Stream>()>;

/// Gives one link, made when it is asked for.
class SingleListener final : public Listener {
 public:
  SingleListener(Endpoint at, MakeStream make) : at_(std::move(at)), make_(std::move(make)) {}

  Endpoint local() const override { return at_; }
  Result<Link> accept(Deadline) override {
    const std::string doing = "accepting on " + at_.to_string();
    if (cancelled_) return fail(errc::cancelled, doing);
    if (given_.exchange(true)) return fail(errc::wrong_state, doing + ": its only link was given before");
    RAMFERRY_TRY_ASSIGN(Stream stream, make_());
    return Link(std::move(stream));
  }
  void cancel() noexcept override { cancelled_ = true; }

 private:
  const Endpoint at_;
  const MakeStream make_;
  std::atomic<bool> cancelled_{false}, given_{false};
};

enum class Direction { reads, writes };

class PosixTransport final : public Transport {
 public:
  explicit PosixTransport(NamedDescriptors named) : named_(std::move(named)) {}

  std::span<const std::string_view> schemes() const noexcept override {
    static constexpr std::array<std::string_view, 3> kSchemes = {"exec", "fd", "file"};
    return kSchemes;
  }
  std::span<const OptionSpec> options() const noexcept override {
    static constexpr std::array<OptionSpec, 1> kOptions = {
        OptionSpec{"dialect", "qemu|auto", "these always carry QEMU's byte stream"}};
    return kOptions;
  }
  Result<> probe() const override { return {}; }
  std::vector<Check> examine(const Endpoint* to) const override;
  Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) override;
  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override;

 private:
  Result<Stream> open_descriptor(const Endpoint& endpoint, Direction direction) const;
  Result<UniqueFd> take_descriptor(const std::string& target) const;

  const NamedDescriptors named_;
};

std::string why(int error) {
  return std::error_code(error, std::system_category()).message();
}

/// A number only: a name is known to the process that was told it.
Check check_descriptor(const std::string& target) {
  const std::string name = "descriptor " + target;
  int number = -1;
  const char* end = target.data() + target.size();
  const auto [stopped, problem] = std::from_chars(target.data(), end, number);
  if (problem != std::errc{} || stopped != end)
    return {name, Check::Verdict::note, "not looked at: 'getfd' names it to the VM alone", {}};
  const int flags = ::fcntl(number, F_GETFL);
  if (flags < 0)
    return {name, Check::Verdict::no, "is not open in this program",
            "pass it on when starting: ramferry … " + target + "<FILE to read it, " + target +
                ">FILE to write it"};
  const int mode = flags & O_ACCMODE;
  return {name,
          Check::Verdict::yes,
          mode == O_RDONLY   ? "is open for reading: a destination may have it"
          : mode == O_WRONLY ? "is open for writing: a source may have it"
                             : "is open for both",
          {}};
}

/// The folder, which a source writes to; and the file, if there is one.
std::vector<Check> check_file(const std::string& path) {
  std::string folder = std::filesystem::path(path).parent_path().string();
  if (folder.empty()) folder = ".";
  struct stat found {};
  const bool exists = ::stat(path.c_str(), &found) == 0;
  const std::string name = "folder " + folder;
  if (exists && S_ISDIR(found.st_mode))
    return {{"file " + path, Check::Verdict::no, "is a folder", "give a file in it: file:" + path + "/NAME"}};
  std::vector<Check> checks;
  if (::access(folder.c_str(), W_OK | X_OK) == 0)
    checks.push_back({name, Check::Verdict::yes, "may be written to", {}});
  else if (const int error = errno; exists)
    checks.push_back({name, Check::Verdict::note, why(error) + ": a destination may read there", {}});
  else
    checks.push_back(
        {name, Check::Verdict::no, why(error),
         error == ENOENT ? "mkdir -p " + folder : "choose another folder, or a user who may write there"});
  if (exists)
    checks.push_back({"file " + path,
                      Check::Verdict::note,
                      "exists: a destination reads it, a source writes over it",
                      {}});
  return checks;
}

Result<> check_dialect(const Endpoint& endpoint) {
  static constexpr std::array<std::string_view, 2> kDialects = {"qemu", "auto"};
  RAMFERRY_TRY(choice_option(endpoint, "dialect", kDialects, 0));
  return {};
}

/// What can be seen without writing, reading or running anything.
std::vector<Check> PosixTransport::examine(const Endpoint* to) const {
  std::vector<Check> checks = Transport::examine(to);
  if (to != nullptr && to->scheme == "fd") checks.push_back(check_descriptor(to->target));
  if (to == nullptr || to->scheme != "file") return checks;
  for (Check& each : check_file(to->target)) checks.push_back(std::move(each));
  return checks;
}

Result<Link> PosixTransport::connect(const Endpoint& to, SessionId /*session*/, Deadline /*deadline*/) {
  RAMFERRY_TRY(check_dialect(to));
  auto stream = to.scheme == "exec"   ? posix::write_to_command(to.target)
                : to.scheme == "file" ? posix::write_to_file(to.target)
                                      : open_descriptor(to, Direction::writes);
  if (!stream) return Failure(std::move(stream).error());
  return Link(std::move(*stream));
}

Result<std::unique_ptr<Listener>> PosixTransport::listen(const Endpoint& at) {
  RAMFERRY_TRY(check_dialect(at));
  if (at.scheme == "exec")
    return std::make_unique<SingleListener>(
        at, [command = at.target] { return posix::read_from_command(command); });
  // What cannot be read is told now, not when the stream is wanted.
  auto stream =
      at.scheme == "file" ? posix::read_from_file(at.target) : open_descriptor(at, Direction::reads);
  if (!stream) return Failure(std::move(stream).error());
  const auto held = std::make_shared<Stream>(std::move(*stream));
  return std::make_unique<SingleListener>(at, [held]() -> Result<Stream> { return std::move(*held); });
}

Result<UniqueFd> PosixTransport::take_descriptor(const std::string& target) const {
  const std::string doing = "taking over fd:" + target;
  int number = -1;
  const char* end = target.data() + target.size();
  const auto [stopped, problem] = std::from_chars(target.data(), end, number);
  if (problem == std::errc{} && stopped == end && number >= 0) {
    if (::fcntl(number, F_SETFD, FD_CLOEXEC) != 0)
      return fail_errno(errno, doing, "no such descriptor is open: pass one on when starting this program");
    return UniqueFd(number);
  }
  if (!named_) return fail(errc::invalid_argument, doing, "give the number of an open descriptor");
  auto fd = named_(target);
  if (!fd) return within(std::move(fd).error(), doing);
  return std::move(*fd);
}

Result<Stream> PosixTransport::open_descriptor(const Endpoint& endpoint, Direction direction) const {
  RAMFERRY_TRY_ASSIGN(UniqueFd fd, take_descriptor(endpoint.target));
  const int flags = ::fcntl(fd.get(), F_GETFL);
  const int useless = direction == Direction::writes ? O_RDONLY : O_WRONLY;
  if (flags >= 0 && (flags & O_ACCMODE) == useless) {
    const std::string need = direction == Direction::writes ? "written to" : "read from";
    return fail(errc::invalid_argument, "using " + endpoint.to_string() + ": it cannot be " + need);
  }
  return std::make_unique<posix::FdStream>(
      std::move(fd), "fd:" + endpoint.target,
      direction == Direction::reads ? posix::Use::reading : posix::Use::both);
}

}  // namespace

std::unique_ptr<Transport> make_posix_transport(Log& /*log*/, NamedDescriptors named) {
  return std::make_unique<PosixTransport>(std::move(named));
}

std::unique_ptr<ByteStream> make_fd_stream(UniqueFd fd, std::string name) {
  return std::make_unique<posix::FdStream>(std::move(fd), std::move(name));
}

}  // namespace ramferry
