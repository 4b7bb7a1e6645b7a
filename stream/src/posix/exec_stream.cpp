// SPDX-License-Identifier: MIT
#include "posix/exec_stream.hpp"

#include "posix/child_process.hpp"
#include "posix/fd_stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

namespace ramferry::posix {
namespace {

constexpr int kPipeBytes = 1 << 20;
/// A command that closes its input is usually about to end, and its exit status says more than a broken pipe.
constexpr auto kTimeForStatus = std::chrono::milliseconds(500);

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe to a command");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  ::fcntl(pipe.write.get(), F_SETPIPE_SZ, kPipeBytes);  // may be refused: then it is slower
  return pipe;
}

std::string name_of(const std::string& command) {
  return "exec:" + command;
}

class CommandWriter final : public ByteStream {
 public:
  CommandWriter(UniqueFd input, const std::string& command, ChildProcess child)
      : input_(std::move(input), name_of(command)), child_(std::move(child)) {}

  Result<> send(ConstBytes bytes) override {
    Result<> outcome = input_.send(bytes);
    if (outcome || !outcome.error().is(errc::peer_gone)) return outcome;
    const Result<> end = child_.wait(input_.cancel_event(), Deadline::after(kTimeForStatus));
    return end || end.error().is(errc::timed_out) ? outcome : end;
  }
  Result<std::size_t> receive(Bytes, Deadline) override {
    return fail(errc::unsupported, "reading from a command that is written to");
  }
  bool all_or_nothing() const noexcept override { return true; }
  Result<> finish(Deadline deadline) override {
    RAMFERRY_TRY(input_.finish(deadline));
    return child_.wait(input_.cancel_event(), deadline);
  }
  void cancel() noexcept override { input_.cancel(); }
  StreamStats stats() const noexcept override { return input_.stats(); }
  Facts facts() const override { return input_.facts(); }

 private:
  // The command is ended before its input closes: it must not take a cut for the end.
  FdStream input_;
  ChildProcess child_;
};

class CommandReader final : public ByteStream {
 public:
  CommandReader(UniqueFd output, const std::string& command, ChildProcess child)
      : output_(std::move(output), name_of(command)), child_(std::move(child)) {}

  Result<> send(ConstBytes) override {
    return fail(errc::unsupported, "writing to a command that is read from");
  }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    RAMFERRY_TRY_ASSIGN(const std::size_t count, output_.receive(into, deadline));
    if (count == 0) RAMFERRY_TRY(child_.wait(output_.cancel_event(), deadline));
    return count;
  }
  Result<> finish(Deadline) override { return {}; }
  void cancel() noexcept override { output_.cancel(); }
  StreamStats stats() const noexcept override { return output_.stats(); }
  Facts facts() const override { return output_.facts(); }

 private:
  FdStream output_;
  ChildProcess child_;
};

}  // namespace

Result<std::unique_ptr<ByteStream>> write_to_command(const std::string& command) {
  RAMFERRY_TRY_ASSIGN(Pipe pipe, make_pipe());
  RAMFERRY_TRY_ASSIGN(ChildProcess child, ChildProcess::run(command, ChildProcess::Connects::standard_input,
                                                            std::move(pipe.read)));
  return std::make_unique<CommandWriter>(std::move(pipe.write), command, std::move(child));
}

Result<std::unique_ptr<ByteStream>> read_from_command(const std::string& command) {
  RAMFERRY_TRY_ASSIGN(Pipe pipe, make_pipe());
  RAMFERRY_TRY_ASSIGN(ChildProcess child, ChildProcess::run(command, ChildProcess::Connects::standard_output,
                                                            std::move(pipe.write)));
  return std::make_unique<CommandReader>(std::move(pipe.read), command, std::move(child));
}

}  // namespace ramferry::posix
