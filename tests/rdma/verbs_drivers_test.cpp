// SPDX-License-Identifier: MIT
#include "verbs_drivers.hpp"

#include "../support/fake_root.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ramferry::rdma {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr const char* kFolder = "/usr/lib/libibverbs";

class VerbsDrivers : public ::testing::Test {
 protected:
  VerbsDrivers() {
    for (const char* each : {"mlx4", "mlx5", "rxe", "siw"})
      root_.write(std::string(kFolder) + "/lib" + each + "-rdmav34.so", "");
  }
  void device(const std::string& name) { root_.write("/sys/class/infiniband/" + name + "/node_guid", "0\n"); }
  std::vector<std::string> needed() const { return needed_drivers(root_.files(), kFolder); }

  test::FakeRoot root_;
};

TEST_F(VerbsDrivers, AreThoseThatTheDevicesAreNamedAfter) {
  device("rxe0");
  EXPECT_THAT(needed(), ElementsAre("librxe-rdmav34.so"));
  device("mlx5_0");
  device("mlx5_1");
  EXPECT_THAT(needed(), ElementsAre("libmlx5-rdmav34.so", "librxe-rdmav34.so"));
}

TEST_F(VerbsDrivers, AreFoundByTheKernelsDriverOfARenamedDevice) {
  device("rocep3s0f1");
  root_.write("/sys/class/infiniband/rocep3s0f1/device/uevent", "DRIVER=mlx5_core\nPCI_CLASS=20000\n");
  EXPECT_THAT(needed(), ElementsAre("libmlx5-rdmav34.so"));
}

TEST_F(VerbsDrivers, AreLeftToLibibverbsWhereNothingTellsOrTwoVersionsDo) {
  EXPECT_THAT(needed(), IsEmpty());
  device("cable");
  device("ml0");
  EXPECT_THAT(needed(), IsEmpty());
  device("siw0");
  root_.write(std::string(kFolder) + "/libsiw-rdmav59.so", "");
  EXPECT_THAT(needed(), IsEmpty());
}

}  // namespace
}  // namespace ramferry::rdma
