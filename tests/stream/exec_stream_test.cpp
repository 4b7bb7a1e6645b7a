// SPDX-License-Identifier: MIT
#include "posix_fixture.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <thread>

namespace ramferry::test {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Waits until `path` exists; false after ten seconds.
bool appears(const std::string& path) {
  for (int i = 0; i < 1000; ++i) {
    if (std::filesystem::exists(path)) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

using ExecStream = PosixTransport;

TEST_F(ExecStream, ACommandGetsAllThatIsSent) {
  auto stream = connect("exec:cat > " + folder_.path("out"));
  RAMFERRY_ASSERT_OK(stream);
  const TestMemory much(5U << 20);
  fill_pattern(much.bytes(), 1);
  RAMFERRY_ASSERT_OK((*stream)->send(much.bytes()));
  RAMFERRY_ASSERT_OK((*stream)->finish(soon()));
  const std::string out = read_file(folder_.path("out"));
  ASSERT_EQ(out.size(), much.bytes().size());
  EXPECT_TRUE(has_pattern(as_bytes(out), 1));
}

TEST_F(ExecStream, WhatACommandPrintsIsReceived) {
  auto stream = accept("exec:printf one; printf two | cat");
  RAMFERRY_ASSERT_OK(stream);
  EXPECT_EQ(text_of(receive_all(**stream, soon())), "onetwo");
  EXPECT_EQ((*stream)->stats().message_bytes_received, 6U);
}

TEST_F(ExecStream, TheCommandMayHaveQuestionMarksAndQuotes) {
  auto stream = accept("exec:echo 'a?b=c&d' \"e\"");
  RAMFERRY_ASSERT_OK(stream);
  EXPECT_EQ(text_of(receive_all(**stream, soon())), "a?b=c&d e\n");
}

TEST_F(ExecStream, AStatusOtherThanZeroFailsFinish) {
  auto stream = connect("exec:cat > /dev/null; exit 7");
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_ASSERT_OK((*stream)->send(as_bytes("x")));
  const auto outcome = (*stream)->finish(soon());
  RAMFERRY_EXPECT_FAILS(errc::peer_failed, outcome);
  EXPECT_THAT(why(outcome), AllOf(HasSubstr("exit status 7"), HasSubstr("exit 7")));
}

TEST_F(ExecStream, AStatusOtherThanZeroFailsTheReceiveThatWouldReportTheEnd) {
  auto stream = accept("exec:echo last words; exit 3");
  RAMFERRY_ASSERT_OK(stream);
  std::array<std::byte, 11> words{};
  RAMFERRY_ASSERT_OK(receive_exactly(**stream, words, soon()));
  const auto outcome = receive_byte(**stream, soon());
  RAMFERRY_EXPECT_FAILS(errc::peer_failed, outcome);
  EXPECT_THAT(why(outcome), HasSubstr("exit status 3"));
}

TEST_F(ExecStream, ACommandThatDoesNotExistSaysSo) {
  auto stream = connect("exec:no-such-command-anywhere 2>/dev/null");
  RAMFERRY_ASSERT_OK(stream);
  const auto outcome = (*stream)->finish(soon());
  RAMFERRY_EXPECT_FAILS(errc::peer_failed, outcome);
  EXPECT_THAT(why(outcome), AllOf(HasSubstr("127"), HasSubstr("exists")));
}

TEST_F(ExecStream, SendTellsTheStatusOfACommandThatStoppedReading) {
  auto stream = connect("exec:exit 5");
  RAMFERRY_ASSERT_OK(stream);
  const TestMemory much(8U << 20);
  const auto outcome = (*stream)->send(much.bytes());
  RAMFERRY_EXPECT_FAILS(errc::peer_failed, outcome);
  EXPECT_THAT(why(outcome), HasSubstr("exit status 5"));
}

TEST_F(ExecStream, ACommandThatStopsReadingWithSuccessIsGoneAllTheSame) {
  auto stream = connect("exec:exit 0");
  RAMFERRY_ASSERT_OK(stream);
  const TestMemory much(8U << 20);
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, (*stream)->send(much.bytes()));
}

TEST_F(ExecStream, AKilledCommandIsGone) {
  auto stream = connect("exec:kill -9 $$");
  RAMFERRY_ASSERT_OK(stream);
  const auto outcome = (*stream)->finish(soon());
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, outcome);
  EXPECT_THAT(why(outcome), HasSubstr("signal 9"));

  auto reading = accept("exec:echo x; kill -9 $$");
  RAMFERRY_ASSERT_OK(reading);
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, receive_all(**reading, soon()));
}

TEST_F(ExecStream, FinishWaitsUntilTheDeadline) {
  auto stream = connect("exec:cat > /dev/null; exec sleep 100");
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_EXPECT_FAILS(errc::timed_out, (*stream)->finish(Deadline::after(milliseconds(30))));
}

TEST_F(ExecStream, CancelEndsAPendingFinish) {
  auto stream = connect("exec:exec sleep 100");
  RAMFERRY_ASSERT_OK(stream);
  Pending<Result<>> finishing(
      std::chrono::seconds(10), [&] { (*stream)->cancel(); },
      [&] { return (*stream)->finish(Deadline::never()); });
  RAMFERRY_EXPECT_FAILS(errc::cancelled, outcome_of(std::move(finishing), [&] { (*stream)->cancel(); }, {}));
}

TEST_F(ExecStream, ACutIsNotTakenForTheEnd) {
  // The command would rename its file into place when its input ends, as a careful script does.
  const std::string script = "touch " + folder_.path("started") + "; cat > " + folder_.path("part") +
                             " && mv " + folder_.path("part") + " " + folder_.path("whole");
  for (const bool cancelled : {false, true}) {
    std::filesystem::remove(folder_.path("started"));
    auto stream = connect("exec:" + script);
    RAMFERRY_ASSERT_OK(stream);
    RAMFERRY_ASSERT_OK((*stream)->send(as_bytes("half")));
    ASSERT_TRUE(appears(folder_.path("started")));
    if (cancelled) (*stream)->cancel();
    stream->reset();  // waits for the command
    EXPECT_FALSE(std::filesystem::exists(folder_.path("whole")));
  }
}

TEST_F(ExecStream, ACommandThatIgnoresTheEndIsKilled) {
  auto stream =
      connect("exec:trap '' TERM; touch " + folder_.path("started") + "; while :; do sleep 0.05; done");
  RAMFERRY_ASSERT_OK(stream);
  ASSERT_TRUE(appears(folder_.path("started")));
  const auto before = std::chrono::steady_clock::now();
  stream->reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
  errno = 0;
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
  EXPECT_EQ(errno, ECHILD);
}

/// Descriptors beyond standard error that whoever started this program lets every command have.
std::size_t inheritable_descriptors() {
  std::size_t count = 0;
  for (int fd = STDERR_FILENO + 1; fd < 1024; ++fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) ++count;
  }
  return count;
}

TEST_F(ExecStream, ACommandInheritsNoDescriptorOfOurs) {
  const std::size_t others = inheritable_descriptors();
  auto first = connect("exec:cat > /dev/null");  // its pipe must not leak into the next command
  auto stream = accept("exec:ls /proc/self/fd | wc -l");
  RAMFERRY_ASSERT_OK(first);
  RAMFERRY_ASSERT_OK(stream);
  EXPECT_EQ(inheritable_descriptors(), others);
  const std::size_t own = 4;  // standard input, output and error, and that which ls reads
  EXPECT_EQ(text_of(receive_all(**stream, soon())), std::to_string(own + others) + "\n");
}

TEST_F(ExecStream, ACommandHasItsSignalsInOrder) {
  sigset_t all{}, before{};
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  auto stream = accept("exec:grep -E 'SigBlk|SigIgn' /proc/self/status");
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  RAMFERRY_ASSERT_OK(stream);
  EXPECT_THAT(text_of(receive_all(**stream, soon())), HasSubstr("SigBlk:\t0000000000000000"));
}

TEST_F(ExecStream, TheWrongDirectionIsRefused) {
  auto writing = connect("exec:cat > /dev/null");
  RAMFERRY_ASSERT_OK(writing);
  RAMFERRY_EXPECT_FAILS(errc::unsupported, receive_byte(**writing, soon()));
  auto reading = accept("exec:true");
  RAMFERRY_ASSERT_OK(reading);
  RAMFERRY_EXPECT_FAILS(errc::unsupported, (*reading)->send(as_bytes("x")));
  RAMFERRY_EXPECT_OK((*reading)->finish(soon()));
}

}  // namespace
}  // namespace ramferry::test
