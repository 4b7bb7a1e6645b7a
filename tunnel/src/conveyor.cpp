// SPDX-License-Identifier: MIT
#include "conveyor.hpp"

#include <ramferry/side_streams.hpp>
#include <ramferry/unique_fd.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace ramferry::tunnel {
namespace {

constexpr int kLookMs = 500;  ///< how often a silent connection is asked whether its host is still there

struct Pipe {
  UniqueFd out, in;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  Pipe pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
  // Without the right to one so large it stays as it is, and takes less at once.
  (void)::fcntl(pipe.in.get(), F_SETPIPE_SZ, static_cast<int>(kMostAtOnce));
  return pipe;
}

/// One direction between two sockets.
class Splicer {
 public:
  Splicer(const SocketBacked& source, const SocketBacked& sink, Pipe pipe) noexcept
      : source_(source), sink_(sink), pipe_(std::move(pipe)) {}

  /// At least one byte into the pipe; 0 at the end.
  Result<std::size_t> take() {
    for (;;) {
      const ssize_t got = ::splice(source_.socket(), nullptr, pipe_.in.get(), nullptr, kMostAtOnce,
                                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (got > 0) return static_cast<std::size_t>(got);
      if (got == 0) {
        RAMFERRY_TRY(source_.check_reachable());  // one that was cancelled looks like one that has ended
        return std::size_t{0};
      }
      if (errno == EAGAIN)
        RAMFERRY_TRY(wait_readable());
      else if (errno != EINTR)
        return fail_errno(errno, "receiving");
    }
  }

  /// These bytes out of the pipe again.
  Result<> pass_on(std::size_t bytes) {
    while (bytes > 0) {
      const ssize_t sent = ::splice(pipe_.out.get(), nullptr, sink_.socket(), nullptr, bytes, SPLICE_F_MOVE);
      if (sent > 0)
        bytes -= static_cast<std::size_t>(sent);
      else if (sent == 0 || errno == EAGAIN)  // it blocks for a while only
        RAMFERRY_TRY(sink_.check_reachable());
      else if (errno != EINTR)
        return fail_errno(errno, "sending");
    }
    return {};
  }

 private:
  Result<> wait_readable() {
    pollfd entry{source_.socket(), POLLIN, 0};
    const int ready = ::poll(&entry, 1, kLookMs);
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "receiving");
    return ready > 0 ? Result<>() : source_.check_reachable();
  }

  const SocketBacked& source_;
  const SocketBacked& sink_;
  Pipe pipe_;
};

void count(std::atomic<std::uint64_t>* counter, std::size_t bytes) noexcept {
  if (counter != nullptr) counter->fetch_add(bytes, std::memory_order_relaxed);
}

/// `take` gives a Result of a number of bytes, `pass_on` takes it.
template <class Take, class PassOn>
Conveyed run(Take take, PassOn pass_on, std::atomic<std::uint64_t>* taken,
             std::atomic<std::uint64_t>* passed_on) {
  for (;;) {
    const Result<std::size_t> got = take();
    if (!got) return {.source = got.error(), .sink = {}};
    if (*got == 0) return {};
    count(taken, *got);
    if (const Result<> sent = pass_on(*got); !sent) return {.source = {}, .sink = sent.error()};
    count(passed_on, *got);
  }
}

}  // namespace

Conveyed convey(ByteStream& source, ByteStream& sink, std::atomic<std::uint64_t>* taken,
                std::atomic<std::uint64_t>* passed_on) {
  const auto* const from = dynamic_cast<const SocketBacked*>(&source);
  const auto* const to = dynamic_cast<const SocketBacked*>(&sink);
  if (from != nullptr && to != nullptr && from->socket() >= 0 && to->socket() >= 0) {
    if (auto pipe = make_pipe()) {
      Splicer splicer(*from, *to, std::move(*pipe));
      return run([&] { return splicer.take(); }, [&](std::size_t bytes) { return splicer.pass_on(bytes); },
                 taken, passed_on);
    }
  }
  std::vector<std::byte> buffer(kMostAtOnce);
  return run([&] { return source.receive(buffer, Deadline::never()); },
             [&](std::size_t bytes) { return sink.send(Bytes(buffer).first(bytes)); }, taken, passed_on);
}

void hold_back_sigpipe() noexcept {
  sigset_t held;
  ::sigemptyset(&held);
  ::sigaddset(&held, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &held, nullptr);
}

}  // namespace ramferry::tunnel
