// SPDX-License-Identifier: MIT
#include "whole_memory.hpp"

#include "support/fake_root.hpp"
#include "support/test_memory.hpp"

#include <gmock/gmock.h>
#include <sys/mman.h>

#include <array>
#include <string>

namespace ramferry::rdma {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::array<std::uint64_t, 2> kBlocks{3 * kGiB, kGiB};
const DeviceFacts kDevice{.name = "mlx5_0"};

/// A machine with 8 GiB to spare and no limits.
class WholeMemory : public ::testing::Test {
 protected:
  WholeMemory() {
    root_.write("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n");
    root_.write("/proc/self/cgroup", "0::/vm\n");
    root_.write("/sys/fs/cgroup/vm/memory.max", "max\n");
  }
  Result<> check(const DeviceFacts& device = kDevice, std::uint64_t pinned = 0) const {
    return check_whole_memory(root_.files(), device, kBlocks, pinned);
  }

  test::FakeRoot root_;
};

TEST_F(WholeMemory, IsTakenWhereNothingForbidsIt) {
  EXPECT_TRUE(check());
  DeviceFacts device = kDevice;
  device.lockable_bytes = 5 * kGiB;
  device.max_region_bytes = 3 * kGiB;
  EXPECT_TRUE(check(device, kGiB));
}

TEST_F(WholeMemory, MustNotExceedTheLockLimitWithWhatIsPinnedAlready) {
  DeviceFacts device = kDevice;
  device.lockable_bytes = 4 * kGiB;
  EXPECT_TRUE(check(device));
  for (const std::uint64_t pinned : {std::uint64_t{1}, 4 * kGiB, 5 * kGiB}) {
    const auto refused = check(device, pinned);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().is(errc::memory_lock_limit));
    EXPECT_THAT(refused.error().message(), HasSubstr("RLIMIT_MEMLOCK is 4 GiB"));
    EXPECT_THAT(refused.error().advice, HasSubstr("ulimit -l unlimited"));
    EXPECT_THAT(refused.error().advice, HasSubstr("rdma-pin-all off"));
  }
}

TEST_F(WholeMemory, HasNoBlockThatTheDeviceDoesNotTake) {
  DeviceFacts device = kDevice;
  device.max_region_bytes = 2 * kGiB;
  const auto refused = check(device);
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(errc::unsupported));
  EXPECT_THAT(refused.error().message(), HasSubstr("a RAM block of 3 GiB: mlx5_0 takes 2 GiB at once"));
}

TEST_F(WholeMemory, FitsWhatIsFree) {
  root_.write("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    3145728 kB\n");
  const auto refused = check();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("only 3 GiB are available"));
}

TEST_F(WholeMemory, FitsTheControlGroup) {
  root_.write("/sys/fs/cgroup/vm/memory.max", "2147483648\n");
  const auto refused = check();
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().is(errc::memory_lock_limit));
  EXPECT_THAT(refused.error().message(), HasSubstr("limit is 2 GiB (/sys/fs/cgroup/vm/memory.max)"));
}

TEST(Populate, MakesEveryPage) {
#ifdef MADV_POPULATE_WRITE
  constexpr std::size_t kSize = 40U << 20;
  const test::TestMemory memory(kSize);
  if (::madvise(memory.bytes().data(), test::kPage, MADV_POPULATE_WRITE) != 0)
    GTEST_SKIP() << "this kernel cannot";
  populate(memory.bytes());
  EXPECT_EQ(test::resident_pages(memory.bytes()), kSize / test::kPage);
#endif
}

}  // namespace
}  // namespace ramferry::rdma
