// SPDX-License-Identifier: MIT
#include "verbs_advice.hpp"

#include "../support/fake_root.hpp"

#include <gmock/gmock.h>

#include <cerrno>

namespace ramferry::rdma {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kMiB = 1 << 20;

DeviceFacts device(std::uint64_t lockable) {
  return {.name = "mlx5_0", .max_regions = 1000, .lockable_bytes = lockable};
}

TEST(VerbsAdvice, BlamesTheLockLimitOnlyForWhatExceedsIt) {
  const Error over = registering_failed(ENOMEM, 2 * kMiB, 7 * kMiB, device(8 * kMiB));
  EXPECT_TRUE(over.is(errc::memory_lock_limit));
  EXPECT_THAT(over.message(), HasSubstr("RLIMIT_MEMLOCK is 8 MiB"));
  for (const std::uint64_t lockable : {64 * kMiB, kUnlimited}) {
    const Error full = registering_failed(ENOMEM, 2 * kMiB, 7 * kMiB, device(lockable));
    EXPECT_TRUE(full.is(errc::memory_lock_limit)) << "less may work";
    EXPECT_THAT(full.message(), Not(HasSubstr("RLIMIT_MEMLOCK")));
    EXPECT_THAT(full.message(), HasSubstr("1000 registrations"));
  }
}

TEST(VerbsAdvice, SaysWhichMemoryCannotBeRegistered) {
  const Error error = registering_failed(EFAULT, kMiB, 0, device(~0ULL));
  EXPECT_EQ(error.code, std::errc::bad_address);
  EXPECT_THAT(error.advice, HasSubstr("hugetlbfs"));
}

TEST(VerbsAdvice, NamesTheLimitOfWhatCouldNotBeMade) {
  EXPECT_THAT(making_failed(ENOMEM, "making it", "max_qp").advice, HasSubstr("max_qp"));
  EXPECT_EQ(making_failed(EIO, "making it", "max_qp").advice, "");
}

TEST(VerbsAdvice, TellsAMissingModuleFromAMissingRight) {
  EXPECT_THAT(opening_advice(std::make_error_code(std::errc::permission_denied)), HasSubstr("may not open"));
  EXPECT_THAT(opening_advice(std::make_error_code(std::errc::no_such_device)), HasSubstr("rdma_ucm"));
  EXPECT_EQ(opening_advice(std::make_error_code(std::errc::too_many_files_open)), "");
}

TEST(VerbsAdvice, ReadsWhatIsPinned) {
  test::FakeRoot root;
  EXPECT_EQ(pinned_bytes(root.files()), 0U);
  root.write("/proc/self/status", "Name:\tx\nVmPin:\t    2048 kB\nVmHWM:\t 1 kB\n");
  EXPECT_EQ(pinned_bytes(root.files()), 2 * kMiB);
}

TEST(VerbsAdvice, KnowsASoftwareDeviceByWhatIsNotBehindIt) {
  test::FakeRoot root;
  for (const char* each : {"foo0", "mlx5_0", "rxe1"})
    root.write("/sys/class/infiniband/" + std::string(each) + "/node_guid", "0\n");
  for (const char* each : {"mlx5_0", "rxe1"})
    root.write("/sys/class/infiniband/" + std::string(each) + "/device/vendor", "0\n");
  EXPECT_TRUE(is_software(root.files(), "foo0"));
  EXPECT_FALSE(is_software(root.files(), "mlx5_0"));
  EXPECT_TRUE(is_software(root.files(), "rxe1"));
  EXPECT_FALSE(is_software(root.files(), "elsewhere0"));
}

}  // namespace
}  // namespace ramferry::rdma
