// SPDX-License-Identifier: MIT
#include "../support/fake_root.hpp"

#include <ramferry/check.hpp>
#include <ramferry/system_files.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ramferry {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

TEST(SystemFiles, ReadsTheFirstLineWithoutBlanks) {
  test::FakeRoot root;
  root.write("/proc/sys/kernel/osrelease", " 6.1.0-44-amd64 \nnoise\n");
  EXPECT_THAT(root.files().line("/proc/sys/kernel/osrelease"), Optional(std::string("6.1.0-44-amd64")));
}

TEST(SystemFiles, ReadsFilesLargerThanOneBuffer) {
  test::FakeRoot root;
  const std::string large(70'001, 'x');
  root.write("/big", large);
  EXPECT_THAT(root.files().text("/big"), Optional(large));
}

TEST(SystemFiles, ReadsWhatTheKernelGeneratesOnTheFly) {
  EXPECT_TRUE(SystemFiles().field("/proc/self/status", "Pid").has_value());
}

TEST(SystemFiles, TellsAnEmptyFileFromNone) {
  test::FakeRoot root;
  root.write("/empty", "");
  EXPECT_THAT(root.files().text("/empty"), Optional(std::string()));
  EXPECT_EQ(root.files().text("/missing"), std::nullopt);
  EXPECT_EQ(root.files().text("/"), std::nullopt);
}

TEST(SystemFiles, TakesMaxAndUnlimitedForNoLimit) {
  test::FakeRoot root;
  root.write("/a", "max\n");
  root.write("/b", "unlimited\n");
  root.write("/c", "4096 8192\n");
  root.write("/d", "4096kB\n");
  EXPECT_THAT(root.files().number("/a"), Optional(kUnlimited));
  EXPECT_THAT(root.files().number("/b"), Optional(kUnlimited));
  EXPECT_THAT(root.files().number("/c"), Optional(4096U));
  EXPECT_EQ(root.files().number("/d"), std::nullopt);
}

TEST(SystemFiles, FindsAFieldByItsWholeKey) {
  test::FakeRoot root;
  root.write("/proc/cpuinfo", "model\t\t: 6\nmodel name\t: Some CPU: fast\nmodel name\t: Other\n");
  EXPECT_THAT(root.files().field("/proc/cpuinfo", "model name"), Optional(std::string("Some CPU: fast")));
  EXPECT_THAT(root.files().field("/proc/cpuinfo", "model"), Optional(std::string("6")));
  EXPECT_EQ(root.files().field("/proc/cpuinfo", "mod"), std::nullopt);
}

TEST(SystemFiles, ListsNamesAsPeopleCount) {
  test::FakeRoot root;
  for (const char* name : {"rxe10", "mlx5_1", "rxe2", "rxe0"})
    root.write(std::string("/sys/") + name + "/x", "");
  EXPECT_THAT(root.files().list("/sys"), ElementsAre("mlx5_1", "rxe0", "rxe2", "rxe10"));
  EXPECT_TRUE(root.files().list("/nowhere").empty());
}

TEST(LockLimit, IsWhatTheKernelSaysOfThisProcess) {
  test::FakeRoot root;
  root.write("/proc/self/limits",
             "Limit                     Soft Limit           Hard Limit           Units     \n"
             "Max locked memory         8388608              unlimited            bytes     \n");
  root.write("/proc/self/status", "Name:\tx\nCapEff:\t000001ffffffbfff\n");
  const LockLimit limit = lock_limit(root.files());
  EXPECT_EQ(limit.soft, 8'388'608U);
  EXPECT_EQ(limit.hard, kUnlimited);
  EXPECT_FALSE(limit.exempt);
}

TEST(LockLimit, DoesNotBindWhoHasTheCapability) {
  test::FakeRoot root;
  root.write("/proc/self/status", "CapEff:\t0000000000004000\n");
  EXPECT_TRUE(lock_limit(root.files()).exempt);
}

TEST(GroupMemoryLimit, IsTheLeastOfAllAncestors) {
  test::FakeRoot root;
  root.write("/proc/self/cgroup", "0::/system.slice/vm.service\n");
  root.write("/sys/fs/cgroup/system.slice/vm.service/memory.max", "max\n");
  root.write("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
  const auto limit = group_memory_limit(root.files());
  ASSERT_TRUE(limit.has_value());
  EXPECT_EQ(limit->bytes, 1U << 30);
  EXPECT_EQ(limit->file, "/sys/fs/cgroup/system.slice/memory.max");
}

TEST(GroupMemoryLimit, KnowsTheFirstVersionToo) {
  test::FakeRoot root;
  root.write("/proc/self/cgroup", "4:cpu,memory:/a\n0::/\n");
  root.write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2097152\n");
  root.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const auto limit = group_memory_limit(root.files());
  ASSERT_TRUE(limit.has_value());
  EXPECT_EQ(limit->bytes, 2U << 20);
}

TEST(GroupMemoryLimit, IsNoneWhereNothingIsSet) {
  test::FakeRoot root;
  EXPECT_FALSE(group_memory_limit(root.files()).has_value());
  root.write("/proc/self/cgroup", "4:memory:/a\n0::/\nnonsense\n");
  root.write("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_FALSE(group_memory_limit(root.files()).has_value());
}

TEST(Check, TurnsAnErrorsAdviceIntoTheFix) {
  const Check check = to_check("port", fail(errc::in_use, "listening on tcp::4444", "choose another port"));
  EXPECT_EQ(check.verdict, Check::Verdict::no);
  EXPECT_EQ(check.fix, "choose another port");
  EXPECT_EQ(check.value.find("choose"), std::string::npos);
  EXPECT_EQ(to_check("port", {}, "4444").verdict, Check::Verdict::yes);
}

}  // namespace
}  // namespace ramferry
