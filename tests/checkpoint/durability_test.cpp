// SPDX-License-Identifier: MIT
// When a checkpoint is on the disk: seen at the system calls, of which this program has its own.
#include "checkpoint/stream_builder.hpp"
#include "checkpoint/system_calls.hpp"

#include <ramferry/checkpoint/receiver.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <utility>

namespace ramferry::checkpoint {
namespace {

struct Event {
  std::string call;
  std::size_t read = 0;  ///< bytes of the stream that had been asked for
};
std::mutex mutex;
std::vector<Event> events;
std::atomic<std::size_t> stream_read = 0;

void note(const std::string& call) {
  const std::lock_guard lock(mutex);
  events.push_back({call, stream_read});
}

}  // namespace
}  // namespace ramferry::checkpoint

extern "C" int fsync(int fd) {
  ramferry::checkpoint::note("fsync");
  struct stat status {};
  if (ramferry::test::no_folder_sync && ::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode))
    return errno = EIO, -1;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
extern "C" int rename(const char* from, const char* to) noexcept {
  ramferry::checkpoint::note("rename");
  return static_cast<int>(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}
extern "C" int renameat2(int from_at, const char* from, int to_at, const char* to, unsigned flags) noexcept {
  if (ramferry::test::no_exclusive_rename) return errno = EINVAL, -1;
  return static_cast<int>(::syscall(SYS_renameat2, from_at, from, to_at, to, flags));
}
extern "C" int link(const char* from, const char* to) noexcept {
  if (ramferry::test::no_hard_links) return errno = EPERM, -1;
  return static_cast<int>(::syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}
extern "C" ssize_t pwritev(int fd, const iovec* pieces, int count, off_t at) {
  ramferry::checkpoint::note("write");
  // What there is room for is written, as the kernel does.
  off_t end = at;
  int fitting = 0;
  while (fitting < count &&
         end + static_cast<off_t>(pieces[fitting].iov_len) <= ramferry::test::room_to_write)
    end += static_cast<off_t>(pieces[fitting++].iov_len);
  if (fitting == 0 && count > 0) return ++ramferry::test::writes_refused, errno = ENOSPC, -1;
  return ::syscall(SYS_pwritev, fd, pieces, fitting, at, 0);
}
extern "C" int flock(int fd, int operation) noexcept {
  if (const auto act = std::exchange(ramferry::test::before_lock, {})) act();
  return static_cast<int>(::syscall(SYS_flock, fd, operation));
}
extern "C" int fallocate(int fd, int mode, off_t at, off_t length) {
  if (at + length > ramferry::test::room_to_reserve) return errno = ENOSPC, -1;
  return static_cast<int>(::syscall(SYS_fallocate, fd, mode, at, length));
}

namespace ramferry::checkpoint {
namespace {

using test::kPage;
using test::page_of;
using test::PlayedStream;
using test::StreamBuilder;

/// Plays byte after byte, and says how far it is.
class CountedStream final : public ByteStream {
 public:
  explicit CountedStream(std::vector<std::byte> bytes) : played_(std::move(bytes), 1) {}
  Result<> send(ConstBytes bytes) override {
    note("send");
    return played_.send(bytes);
  }
  Result<std::size_t> receive(Bytes into, Deadline deadline) override {
    ++stream_read;
    return played_.receive(into, deadline);
  }
  Result<> finish(Deadline deadline) override { return played_.finish(deadline); }
  void cancel() noexcept override {}
  StreamStats stats() const noexcept override { return {}; }

 private:
  PlayedStream played_;
};

class DurabilityTest : public ::testing::Test {
 protected:
  DurabilityTest() {
    stream_.head().command(1).start({{"ram", kPage}}).part().filled(0, page_of(1), "ram").finish();
    last_part_ = stream_.bytes().size();
    stream_.part(3).finish();
    ram_end_ = stream_.bytes().size();
    stream_.devices();
    events.clear();
    stream_read = 0;
  }

  Result<ReceiveReport> receive() {
    Receiver receiver(Link(std::make_unique<CountedStream>(stream_.bytes())), {.path = folder_ / "vm.ckpt"},
                      log_);
    return receiver.run();
  }
  static std::size_t place(const std::string& call, std::size_t from = 0) {
    while (from < events.size() && events[from].call != call) ++from;
    return from;
  }

  test::TemporaryFolder folder_;
  NullLog log_;
  StreamBuilder stream_;
  std::size_t last_part_ = 0, ram_end_ = 0;
};

TEST_F(DurabilityTest, WhatCameIsOnTheDiskBeforeTheLastPartIsTaken) {
  ASSERT_TRUE(receive().has_value());
  constexpr std::size_t kHead = 5;  // that it is the last part is read, and nothing of what it says
  const auto synced = std::count_if(events.begin(), events.end(), [&](const Event& event) {
    return event.call == "fsync" && event.read >= last_part_ && event.read <= last_part_ + kHead;
  });
  EXPECT_EQ(synced, 1);
  const auto state = std::count_if(events.begin(), events.end(), [&](const Event& event) {
    return event.call == "fsync" && event.read == ram_end_;
  });
  EXPECT_EQ(state, 1) << "all of RAM is, before the machine's state is taken";
}

TEST_F(DurabilityTest, TheSourceIsToldWhenFileAndNameAreOnTheDisk) {
  ASSERT_TRUE(receive().has_value());
  const std::size_t renamed = place("rename"), told = place("send");
  ASSERT_LT(renamed, events.size());
  ASSERT_GT(renamed, 0U);
  EXPECT_EQ(events[renamed - 1].call, "fsync") << "the file, behind the last write";
  EXPECT_EQ(place("fsync", renamed), renamed + 1) << "its folder";
  EXPECT_EQ(told, renamed + 2);
}

TEST_F(DurabilityTest, RoomForTheRestIsTakenBeforeTheLastPart) {
  const test::FullDisk full(test::room_to_reserve, 3 * kPage);  // for the page, and not for index and state
  const auto result = receive();
  ASSERT_FALSE(result.has_value());
  EXPECT_TRUE(result.error().is(errc::no_space)) << result.error().message();
  const std::size_t told = place("send");
  ASSERT_LT(told, events.size());
  EXPECT_LE(events[told].read, last_part_ + 5);
  EXPECT_EQ(folder_.files(), 0U);
}

}  // namespace
}  // namespace ramferry::checkpoint
