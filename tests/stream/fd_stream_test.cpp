// SPDX-License-Identifier: MIT
#include "posix_fixture.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

namespace ramferry::test {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

using FdStream = PosixTransport;

TEST_F(FdStream, ANumberIsTakenOver) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  {
    auto to = connect("fd:" + std::to_string(ends[1])), from = accept("fd:" + std::to_string(ends[0]));
    RAMFERRY_ASSERT_OK(to);
    RAMFERRY_ASSERT_OK(from);
    EXPECT_EQ(::fcntl(ends[0], F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(::fcntl(ends[1], F_GETFD), FD_CLOEXEC);
    RAMFERRY_EXPECT_OK((*to)->send(as_bytes("abc")));
    RAMFERRY_EXPECT_OK((*to)->finish(soon()));
    EXPECT_EQ(text_of(receive_all(**from, soon())), "abc");
  }
  EXPECT_EQ(::fcntl(ends[0], F_GETFD), -1) << "closed with its stream";
}

TEST_F(FdStream, ANameIsResolved) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  TransportCatalog catalog;
  catalog.add(make_posix_transport(log_, [&](std::string_view name) -> Result<UniqueFd> {
    if (name != "migration") return fail(errc::not_found, "looking for '" + std::string(name) + "'");
    return UniqueFd(ends[0]);
  }));
  const auto unknown = catalog.connect("fd:other", {}, soon());
  RAMFERRY_EXPECT_FAILS(errc::not_found, unknown);
  EXPECT_THAT(why(unknown), AllOf(HasSubstr("fd:other"), HasSubstr("looking for")));
  auto link = catalog.connect("fd:migration", {}, soon());
  RAMFERRY_ASSERT_OK(link);
  RAMFERRY_EXPECT_OK(bytes_of(*link).send(as_bytes("abc")));
  const Stream other = make_fd_stream(UniqueFd(ends[1]), "other");
  std::array<std::byte, 3> into{};
  RAMFERRY_EXPECT_OK(receive_exactly(*other, into, soon()));
}

TEST_F(FdStream, WhatIsNoDescriptorIsRefused) {
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, connect("fd:name"));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, connect("fd:-1"));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, connect("fd:7x"));
  const auto closed = connect("fd:987654");
  EXPECT_FALSE(closed.has_value());
  EXPECT_THAT(why(closed), AllOf(HasSubstr("fd:987654"), HasSubstr("no such descriptor is open")));
  const auto huge = connect("fd:99999999999999999999");
  EXPECT_FALSE(huge.has_value());
}

TEST_F(FdStream, ADescriptorForTheOtherDirectionIsRefused) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const auto backwards = connect("fd:" + std::to_string(ends[0]));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, backwards);
  EXPECT_THAT(why(backwards), HasSubstr("cannot be written to"));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, catalog_.listen("fd:" + std::to_string(ends[1])));
}

TEST_F(FdStream, ASocketIsHalfClosedByFinish) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  const Stream one = make_fd_stream(UniqueFd(ends[0]), "one"),
               other = make_fd_stream(UniqueFd(ends[1]), "other");
  RAMFERRY_EXPECT_OK(one->finish(soon()));
  RAMFERRY_EXPECT_OK(other->send(as_bytes("back")));
  RAMFERRY_EXPECT_OK(other->finish(soon()));
  EXPECT_EQ(text_of(receive_all(*one, soon())), "back");
  EXPECT_EQ(text_of(receive_all(*other, soon())), "");
}

TEST_F(FdStream, ItsFlagsAreGivenBack) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd read(ends[0]), write(ends[1]), shared(::dup(ends[1]));
  const int before = ::fcntl(shared.get(), F_GETFL);
  {
    const Stream stream = make_fd_stream(UniqueFd(::dup(ends[1])), "pipe");
    EXPECT_NE(::fcntl(shared.get(), F_GETFL), before);
  }
  EXPECT_EQ(::fcntl(shared.get(), F_GETFL), before);
}

TEST_F(FdStream, WhatIsOnlyReadFromIsStillReadAfterAWrite) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const UniqueFd writer(ends[1]);
  const Stream stream = make_fd_stream(UniqueFd(ends[0]), "pipe");
  const auto sent = stream->send(as_bytes("no"));
  ASSERT_FALSE(sent.has_value());
  EXPECT_TRUE(sent.error().is(errc::unsupported)) << sent.error().message();
  ASSERT_EQ(::write(writer.get(), "yes", 3), 3);
  std::array<std::byte, 3> got{};
  EXPECT_TRUE(receive_exactly(*stream, got, soon()).has_value());
}

TEST_F(FdStream, AFileThatIsReadFromIsNotWrittenTo) {
  const std::string file = folder_.path("recording"), fifo = folder_.path("fifo");
  write_file(file, "abcdef");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {file, fifo}) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    if (path == fifo) {
      ASSERT_EQ(::write(fd, "abcdef", 6), 6);
    }
    const auto stream = accept("fd:" + std::to_string(fd));
    RAMFERRY_ASSERT_OK(stream);
    std::array<std::byte, 3> got{};
    RAMFERRY_EXPECT_OK(receive_exactly(**stream, got, soon()));
    RAMFERRY_EXPECT_FAILS(errc::unsupported, (*stream)->send(as_bytes("no")));
    RAMFERRY_EXPECT_OK(receive_exactly(**stream, got, soon()));
    EXPECT_EQ(got.back(), std::byte{'f'}) << path;
    RAMFERRY_EXPECT_OK((*stream)->finish(soon()));
  }
  EXPECT_EQ(read_file(file), "abcdef");
}

TEST_F(FdStream, ASocketThatIsReadFromIsAnswered) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  const Stream other = make_fd_stream(UniqueFd(ends[1]), "other");
  const auto stream = accept("fd:" + std::to_string(ends[0]));
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_EXPECT_OK((*stream)->send(as_bytes("yes")));
  std::array<std::byte, 3> got{};
  RAMFERRY_EXPECT_OK(receive_exactly(*other, got, soon()));
}

TEST_F(FdStream, NoSignalKillsNorStaysBehind) {
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const Stream stream = make_fd_stream(UniqueFd(ends[1]), "pipe");
  ::close(ends[0]);
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, stream->send(as_bytes("x")));
  sigset_t pending{}, mask{};
  ::sigpending(&pending);
  ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(::sigismember(&pending, SIGPIPE), 0);
  EXPECT_EQ(::sigismember(&mask, SIGPIPE), 0) << "the thread's mask is as before";
}

TEST_F(FdStream, ASignalThatWasPendingBeforeStaysPending) {
  sigset_t pipe_signal{}, before{}, pending{};
  ::sigemptyset(&pipe_signal);
  ::sigaddset(&pipe_signal, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  ::raise(SIGPIPE);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const Stream stream = make_fd_stream(UniqueFd(ends[1]), "pipe");
  ::close(ends[0]);
  RAMFERRY_EXPECT_FAILS(errc::peer_gone, stream->send(as_bytes("x")));
  ::sigpending(&pending);
  EXPECT_EQ(::sigismember(&pending, SIGPIPE), 1);
  const timespec at_once{};
  ::sigtimedwait(&pipe_signal, nullptr, &at_once);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace
}  // namespace ramferry::test
