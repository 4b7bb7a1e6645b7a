// SPDX-License-Identifier: MIT
#include "posix/cancel_event.hpp"
#include "posix/exec_stream.hpp"
#include "posix/fd_stream.hpp"
#include "posix/file_stream.hpp"

#include <ramferry/posix_transport.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
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
  Result<Link> connect(const Endpoint& to, SessionId session, Deadline deadline) override;
  Result<std::unique_ptr<Listener>> listen(const Endpoint& at) override;

 private:
  Result<Stream> open_descriptor(const Endpoint& endpoint, Direction direction) const;
  Result<UniqueFd> take_descriptor(const std::string& target) const;

  const NamedDescriptors named_;
};

Result<> check_dialect(const Endpoint& endpoint) {
  static constexpr std::array<std::string_view, 2> kDialects = {"qemu", "auto"};
  RAMFERRY_TRY(choice_option(endpoint, "dialect", kDialects, 0));
  return {};
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
  return make_fd_stream(std::move(fd), "fd:" + endpoint.target);
}

}  // namespace

std::unique_ptr<Transport> make_posix_transport(Log& /*log*/, NamedDescriptors named) {
  return std::make_unique<PosixTransport>(std::move(named));
}

std::unique_ptr<ByteStream> make_fd_stream(UniqueFd fd, std::string name) {
  return std::make_unique<posix::FdStream>(std::move(fd), std::move(name));
}

}  // namespace ramferry
