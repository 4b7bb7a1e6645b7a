// SPDX-License-Identifier: MIT
#include "posix_fixture.hpp"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

namespace ramferry::test {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

using FileStream = PosixTransport;

TEST_F(FileStream, AppearsWholeOrNotAtAll) {
  const std::string path = folder_.path("state");
  auto stream = connect("file:" + path);
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_ASSERT_OK((*stream)->send(as_bytes("all ")));
  RAMFERRY_ASSERT_OK((*stream)->send(as_bytes("of it")));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(std::filesystem::exists(path + ".partial"));
  RAMFERRY_ASSERT_OK((*stream)->finish(soon()));
  EXPECT_EQ(read_file(path), "all of it");
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  RAMFERRY_EXPECT_OK((*stream)->finish(soon()));
  (*stream)->cancel();
  stream->reset();
  EXPECT_EQ(read_file(path), "all of it") << "what was finished stays";
}

TEST_F(FileStream, IsForItsOwnersEyesOnly) {
  auto stream = connect("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_ASSERT_OK((*stream)->finish(soon()));
  struct stat what {};
  ASSERT_EQ(::stat(folder_.path("state").c_str(), &what), 0);
  EXPECT_EQ(what.st_mode & 0777, 0600U);
}

TEST_F(FileStream, ReplacesWhatWasThereOnlyAtTheEnd) {
  const std::string path = folder_.path("state");
  write_file(path, "old");
  for (const bool cancelled : {false, true}) {
    auto unfinished = connect("file:" + path);
    RAMFERRY_ASSERT_OK(unfinished);
    RAMFERRY_ASSERT_OK((*unfinished)->send(as_bytes("new")));
    EXPECT_EQ(read_file(path), "old");
    if (cancelled) {
      (*unfinished)->cancel();
      EXPECT_FALSE(std::filesystem::exists(path + ".partial")) << "removed by cancel";
      RAMFERRY_EXPECT_FAILS(errc::cancelled, (*unfinished)->finish(soon()));
    }
    unfinished->reset();
    EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
    EXPECT_EQ(read_file(path), "old");
  }
  auto stream = connect("file:" + path);
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_ASSERT_OK((*stream)->send(as_bytes("new")));
  RAMFERRY_ASSERT_OK((*stream)->finish(soon()));
  EXPECT_EQ(read_file(path), "new");
}

TEST_F(FileStream, ALeftOverPartIsOverwritten) {
  write_file(folder_.path("state.partial"), "left over from a crash, and longer");
  auto stream = connect("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_ASSERT_OK((*stream)->send(as_bytes("new")));
  RAMFERRY_ASSERT_OK((*stream)->finish(soon()));
  EXPECT_EQ(read_file(folder_.path("state")), "new");
}

TEST_F(FileStream, TwoWritersOfOneFileAreRefused) {
  auto first = connect("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(first);
  RAMFERRY_ASSERT_OK((*first)->send(as_bytes("first")));
  RAMFERRY_EXPECT_FAILS(errc::in_use, connect("file:" + folder_.path("state")));
  RAMFERRY_ASSERT_OK((*first)->finish(soon()));
  EXPECT_EQ(read_file(folder_.path("state")), "first");
}

TEST_F(FileStream, ALinkIsFollowed) {
  write_file(folder_.path("real"), "old");
  std::filesystem::create_symlink("real", folder_.path("link"));
  auto stream = connect("file:" + folder_.path("link"));
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_ASSERT_OK((*stream)->send(as_bytes("new")));
  RAMFERRY_ASSERT_OK((*stream)->finish(soon()));
  EXPECT_TRUE(std::filesystem::is_symlink(folder_.path("link")));
  EXPECT_EQ(read_file(folder_.path("real")), "new");
}

TEST_F(FileStream, RelativePathsWork) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  auto stream = connect("file:state");
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_EXPECT_OK((*stream)->send(as_bytes("x")));
  RAMFERRY_EXPECT_OK((*stream)->finish(soon()));
  auto back = accept("file:state");
  RAMFERRY_ASSERT_OK(back);
  EXPECT_EQ(text_of(receive_all(**back, soon())), "x");
  std::filesystem::current_path(before);
}

TEST_F(FileStream, IsReadToItsEnd) {
  const std::string text(300001, 'x');
  write_file(folder_.path("state"), text);
  auto stream = accept("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(stream);
  EXPECT_EQ(text_of(receive_all(**stream, soon())), text);
  std::array<std::byte, 1> into{};
  EXPECT_EQ((*stream)->receive(into, soon()).value_or(9), 0U);
}

TEST_F(FileStream, WhatCannotBeOpenedIsToldAtOnce) {
  RAMFERRY_EXPECT_FAILS(errc::not_found, catalog_.listen("file:" + folder_.path("none")));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, catalog_.listen("file:" + folder_.path()));
  RAMFERRY_EXPECT_FAILS(errc::invalid_argument, connect("file:" + folder_.path()));
  const auto no_folder = connect("file:" + folder_.path("none/state"));
  RAMFERRY_EXPECT_FAILS(errc::not_found, no_folder);
  EXPECT_THAT(why(no_folder), HasSubstr("create the folder first"));
  RAMFERRY_EXPECT_FAILS(errc::not_found, connect("file:/dev/null/state"));
}

TEST_F(FileStream, AFullDiskSaysWhereAndHowMuchIsLeft) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small disk needs root";
  const std::string disk = folder_.path("disk");
  std::filesystem::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=1M") != 0)
    GTEST_SKIP() << "mounting a small disk is not permitted here: " << std::strerror(errno);
  {
    auto stream = connect("file:" + disk + "/state");
    const TestMemory much(2U << 20);
    fill_pattern(much.bytes(), 1);
    if (stream) {
      const auto outcome = (*stream)->send(much.bytes());
      RAMFERRY_EXPECT_FAILS(errc::no_space, outcome);
      EXPECT_THAT(why(outcome), AllOf(HasSubstr(disk + "/state"), HasSubstr("free some space in " + disk),
                                      HasSubstr("0 B left")));
      RAMFERRY_EXPECT_FAILS(errc::no_space, (*stream)->finish(soon()));
    } else {
      ADD_FAILURE() << why(stream);
    }
  }
  EXPECT_TRUE(std::filesystem::is_empty(disk)) << "nothing is left behind";
  EXPECT_EQ(::umount2(disk.c_str(), MNT_DETACH), 0);
}

TEST_F(FileStream, AFullDeviceIsNoSpaceAndKeepsItsNode) {
  auto stream = connect("file:/dev/full");
  RAMFERRY_ASSERT_OK(stream);
  RAMFERRY_EXPECT_FAILS(errc::no_space, (*stream)->send(as_bytes("x")));
  stream->reset();
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
  EXPECT_FALSE(std::filesystem::exists("/dev/full.partial"));
}

TEST_F(FileStream, TheFileSizeLimitIsNoSpaceAndKillsNobody) {
  auto stream = connect("file:" + folder_.path("state"));
  RAMFERRY_ASSERT_OK(stream);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4096, before.rlim_max};
  const TestMemory much(1U << 20);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto outcome = (*stream)->send(much.bytes());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  RAMFERRY_EXPECT_FAILS(errc::no_space, outcome);
}

TEST_F(FileStream, AFifoIsReadWhenItsWriterComes) {
  const std::string path = folder_.path("fifo");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  RAMFERRY_EXPECT_FAILS(errc::not_found, connect("file:" + path));  // nobody reads
  auto from = accept("file:" + path);
  RAMFERRY_ASSERT_OK(from);
  std::array<std::byte, 1> into{};
  RAMFERRY_EXPECT_FAILS(errc::timed_out, (*from)->receive(into, Deadline::after(milliseconds(10))));
  auto to = connect("file:" + path);
  RAMFERRY_ASSERT_OK(to);
  RAMFERRY_ASSERT_OK((*to)->send(as_bytes("through")));
  RAMFERRY_ASSERT_OK((*to)->finish(soon()));
  EXPECT_EQ(text_of(receive_all(**from, soon())), "through");
}

}  // namespace
}  // namespace ramferry::test
