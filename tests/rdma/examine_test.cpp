// SPDX-License-Identifier: MIT
#include "examine.hpp"

#include "../support/fake_root.hpp"
#include "hello.hpp"
#include "rdma_host.hpp"
#include "verbs_fabric.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <string>
#include <vector>

namespace ramferry::rdma {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Verdict = Check::Verdict;

/// A host with everything in order, as soft-RoCE on eth0 shows itself; each test breaks one thing.
class Examine : public ::testing::Test {
 protected:
  Examine() {
    root_.write("/proc/sys/kernel/osrelease", "6.1.0-44-amd64\n");
    root_.write("/proc/net/route", "Iface\tDestination\tGateway\neth0\t00000000\t0100000A\n");
    root_.write("/proc/self/limits",
                "Max locked memory         unlimited            unlimited            bytes\n");
    root_.write("/proc/self/status", "CapEff:\t0000000000000000\n");
    for (const char* module : {"ib_uverbs", "rdma_ucm", "rdma_rxe"})
      root_.write("/sys/module/" + std::string(module) + "/refcnt", "1\n");
    root_.write("/sys/class/net/eth0/mtu", "9000\n");
    root_.write("/dev/infiniband/rdma_cm", "");
    root_.write("/dev/infiniband/uverbs0", "");
    root_.write("/sys/class/infiniband_verbs/abi_version", "6\n");
    root_.write("/sys/class/infiniband_verbs/uverbs0/ibdev", "rxe0\n");
    root_.write("/sys/class/infiniband/rxe0/parent", "eth0\n");
    root_.write(kPort + "state", "4: ACTIVE\n");
    root_.write(kPort + "link_layer", "Ethernet\n");
    write_gid(0, "fe80:0000:0000:0000:5054:00ff:fe00:000a");
    write_gid(1, "0000:0000:0000:0000:0000:ffff:0a00:0007");
    root_.write(kPort + "gids/2", "0000:0000:0000:0000:0000:0000:0000:0000\n");
  }

  void write_gid(unsigned index, const std::string& gid) {
    root_.write(kPort + "gids/" + std::to_string(index), gid + "\n");
    root_.write(kPort + "gid_attrs/types/" + std::to_string(index), "RoCE v2\n");
    root_.write(kPort + "gid_attrs/ndevs/" + std::to_string(index), "eth0\n");
  }
  void lock_limit(const std::string& soft, const std::string& hard) {
    root_.write("/proc/self/limits", "Max locked memory   " + soft + "   " + hard + "   bytes\n");
  }
  void no_device() {
    root_.remove("/sys/class/infiniband");
    root_.remove("/sys/class/infiniband_verbs");
  }

  std::vector<Check> all(Pin pin = Pin::all) const {
    auto checks = examine_machine(root_.files(), reports_, pin);
    for (const Check& each : checks)
      EXPECT_TRUE(each.verdict != Verdict::no || !each.fix.empty()) << each.name;
    return checks;
  }
  Check check(std::string_view name, Pin pin = Pin::all) const {
    for (const Check& each : all(pin))
      if (each.name == name) return each;
    ADD_FAILURE() << "no check is called " << name;
    return {};
  }

  const std::string kPort = "/sys/class/infiniband/rxe0/ports/1/";
  test::FakeRoot root_;
  std::vector<DeviceReport> reports_ = {{.name = "rxe0",
                                         .max_region_bytes = ~0ULL,
                                         .max_regions = 524'287,
                                         .max_queue_pairs = 1'048'560,
                                         .max_queue_depth = 1'048'576,
                                         .ports = {{.mtu = 4096}}}};
};

TEST_F(Examine, FindsNothingWrongWithASoundHost) {
  for (const Check& each : all()) EXPECT_NE(each.verdict, Verdict::no) << each.name << ": " << each.value;
}

TEST_F(Examine, TellsEveryGidWithTypeAndAddress) {
  EXPECT_EQ(check("GIDs of rxe0").value, "0 fe80::5054:ff:fe00:a (RoCE v2), 1 10.0.0.7 (RoCE v2)");
  EXPECT_EQ(check("port of rxe0").value, "ACTIVE, Ethernet, on eth0");
}

TEST_F(Examine, WantsAnAddressThatRoutes) {
  root_.write(kPort + "gids/1", "0000:0000:0000:0000:0000:0000:0000:0000\n");
  const Check gids = check("GIDs of rxe0");
  EXPECT_EQ(gids.verdict, Verdict::no);
  EXPECT_THAT(gids.fix, HasSubstr("ip address add 10.0.0.1/24 dev eth0"));
}

TEST_F(Examine, ShowsTheFirstOfManyGids) {
  for (unsigned index = 2; index < 10; ++index)
    write_gid(index, "2001:0db8:0000:0000:0000:0000:0000:000" + std::to_string(index));
  EXPECT_THAT(check("GIDs of rxe0").value, AllOf(HasSubstr("5 2001:db8::5"), HasSubstr(" and 4 more")));
}

TEST_F(Examine, BringsADownEthernetPortUp) {
  root_.write(kPort + "state", "1: DOWN\n");
  EXPECT_EQ(check("port of rxe0").verdict, Verdict::no);
  EXPECT_EQ(check("port of rxe0").fix, "ip link set eth0 up");
  root_.write("/sys/class/net/eth0/carrier", "0\n");
  EXPECT_THAT(check("port of rxe0").fix, HasSubstr("cable of eth0")) << "it is up, and nothing is plugged in";
}

TEST_F(Examine, WantsASubnetManagerOnInfiniband) {
  root_.remove("/sys/class/infiniband/rxe0/parent");
  root_.remove(kPort + "gid_attrs/ndevs");
  root_.write(kPort + "link_layer", "InfiniBand\n");
  root_.write(kPort + "state", "2: INIT\n");
  EXPECT_EQ(check("port of rxe0").verdict, Verdict::no);
  EXPECT_THAT(check("port of rxe0").fix, HasSubstr("opensm"));
  EXPECT_EQ(check("GIDs of rxe0").verdict, Verdict::yes) << "link-local is all that InfiniBand has";
}

TEST_F(Examine, SaysWhyThePathMtuIsSmall) {
  root_.write("/sys/class/net/eth0/mtu", "1500\n");
  reports_[0].ports[0].mtu = 1024;
  const Check mtu = check("path MTU of rxe0");
  EXPECT_EQ(mtu.verdict, Verdict::note) << "it works";
  EXPECT_THAT(mtu.value, AllOf(HasSubstr("1024 bytes (MTU of eth0: 1500)"), HasSubstr("4176")));
  EXPECT_EQ(mtu.fix, "ip link set eth0 mtu 9000");
}

TEST_F(Examine, NotesADeviceWithSmallOrFewRegions) {
  EXPECT_THAT(check("limits of rxe0").value, HasSubstr("any size"));
  reports_[0].max_region_bytes = 64 << 20;
  EXPECT_EQ(check("limits of rxe0").verdict, Verdict::note);
  EXPECT_THAT(check("limits of rxe0").value, AllOf(HasSubstr("64 MiB"), HasSubstr("pin=demand")));
}

TEST_F(Examine, SaysWhenADeviceCannotBeOpened) {
  reports_[0].problem = "ibv_open_device: Permission denied";
  EXPECT_EQ(check("verbs of rxe0").verdict, Verdict::no);
  EXPECT_THAT(check("verbs of rxe0").value, HasSubstr("Permission denied"));
  reports_.clear();
  EXPECT_THAT(check("verbs of rxe0").fix, HasSubstr("ibverbs-providers"));
}

TEST_F(Examine, NamesAMissingNode) {
  root_.remove("/dev/infiniband/rdma_cm");
  const Check node = check("node /dev/infiniband/rdma_cm");
  EXPECT_EQ(node.verdict, Verdict::no);
  EXPECT_THAT(node.fix, AllOf(StartsWith("modprobe rdma_ucm"), HasSubstr("--device=/dev/infiniband")));
}

TEST_F(Examine, LoadsTheModulesThatTheKernelHas) {
  root_.remove("/sys/module");
  root_.write("/lib/modules/6.1.0-44-amd64/modules.builtin", "kernel/drivers/infiniband/core/ib_uverbs.ko\n");
  root_.write("/lib/modules/6.1.0-44-amd64/modules.dep",
              "kernel/x/rdma_ucm.ko.xz: a\nkernel/x/rdma_rxe.ko.xz: b\nkernel/x/my_rdma_ucm.ko:\n");
  EXPECT_EQ(check("kernel modules").fix, "modprobe -a rdma_ucm") << "with a device, soft-RoCE is not needed";
  no_device();
  EXPECT_EQ(check("kernel modules").verdict, Verdict::no);
  EXPECT_EQ(check("kernel modules").fix, "modprobe -a rdma_ucm rdma_rxe");
}

TEST_F(Examine, GivesTheCommandsThatMakeASoftwareDevice) {
  no_device();
  root_.remove("/sys/module");
  root_.write("/lib/modules/6.1.0-44-amd64/modules.dep",
              "k/ib_uverbs.ko: \nk/rdma_ucm.ko: \nk/rdma_rxe.ko: \n");
  root_.write("/sys/class/net/eth0/mtu", "1500\n");
  const Check device = check("device");
  EXPECT_EQ(device.verdict, Verdict::no);
  EXPECT_THAT(device.fix,
              StartsWith("modprobe -a ib_uverbs rdma_ucm rdma_rxe && ip link set eth0 mtu 9000 && "
                         "rdma link add rxe0 type rxe netdev eth0"));
}

TEST_F(Examine, LeavesOutTheCommandsThatAreNotNeeded) {
  no_device();
  EXPECT_THAT(check("device").fix, StartsWith("rdma link add rxe0 type rxe netdev eth0"));
}

TEST_F(Examine, FindsAnInterfaceWithoutADefaultRoute) {
  no_device();
  root_.write("/proc/net/route", "Iface\tDestination\tGateway\n");
  root_.write("/sys/class/net/lo/type", "772\n");
  root_.write("/sys/class/net/lo/operstate", "up\n");
  root_.write("/sys/class/net/ens3/type", "1\n");
  root_.write("/sys/class/net/ens3/operstate", "up\n");
  root_.write("/sys/class/net/ens3/mtu", "1500\n");
  EXPECT_THAT(check("device").fix, HasSubstr("netdev ens3"));
  root_.remove("/sys/class/net/ens3");
  root_.remove("/sys/class/net/eth0");
  EXPECT_THAT(check("device").fix,
              AllOf(HasSubstr("ip link add rdma-net type dummy"),
                    HasSubstr("ip address add 198.18.0.1/24 dev rdma-net"), HasSubstr("netdev rdma-net")));
}

TEST_F(Examine, SaysWhenTheKernelHasNoSoftRoce) {
  no_device();
  root_.remove("/sys/module/rdma_rxe");
  root_.write("/lib/modules/6.1.0-44-amd64/modules.dep", "kernel/x/not_rdma_rxe.ko.xz: a\n");
  EXPECT_THAT(check("device").fix,
              AllOf(HasSubstr("`modinfo rdma_rxe` finds none"), HasSubstr("./dev soft-roce")));
  EXPECT_THAT(check("kernel modules").value, HasSubstr("has no rdma_rxe"));
  EXPECT_THAT(check("kernel modules").fix, HasSubstr("linux-image-amd64"));
}

TEST_F(Examine, LoadsTheConnectionManagerOnlyWhereTheKernelHasIt) {
  root_.remove("/sys/module");
  root_.write("/lib/modules/6.1.0-44-amd64/modules.dep", "k/ib_uverbs.ko: \nk/rdma_ucm.ko: \n");
  EXPECT_THAT(how_to_get_a_connection_manager(root_.files()), StartsWith("modprobe rdma_ucm"));
  root_.remove("/lib/modules");
  EXPECT_THAT(how_to_get_a_connection_manager(root_.files()),
              AllOf(HasSubstr("`modinfo ib_uverbs` finds none"), HasSubstr("./dev soft-roce")));
}

TEST_F(Examine, TreatsTheLockLimitByWhatIsAskedFor) {
  lock_limit("8388608", "8388608");
  EXPECT_EQ(check("memory lock limit", Pin::all).verdict, Verdict::no);
  EXPECT_THAT(check("memory lock limit", Pin::all).fix, HasSubstr("prlimit --pid $$ --memlock=unlimited"));
  EXPECT_EQ(check("memory lock limit", Pin::demand).verdict, Verdict::note);
  lock_limit("8388608", "unlimited");
  EXPECT_THAT(check("memory lock limit").fix, StartsWith("ulimit -l unlimited"));
  lock_limit("8589934592", "8589934592");
  EXPECT_EQ(check("memory lock limit").verdict, Verdict::note) << "some guests fit";
  root_.write("/proc/self/status", "CapEff:\t0000000000004000\n");
  EXPECT_EQ(check("memory lock limit").verdict, Verdict::yes);
}

TEST_F(Examine, NotesWhatControlGroupsLimit) {
  root_.write("/proc/self/cgroup", "0::/vm\n");
  root_.write("/sys/fs/cgroup/vm/memory.max", "1073741824\n");
  root_.write("/sys/fs/cgroup/vm/rdma.max", "rxe0 hca_handle=max hca_object=max\n");
  EXPECT_THAT(check("control group memory limit").value, StartsWith("1 GiB"));
  EXPECT_THAT(check("control group memory limit").fix, HasSubstr("/sys/fs/cgroup/vm/memory.max"));
  const auto names_limit = [](const std::vector<Check>& checks) {
    return std::any_of(checks.begin(), checks.end(),
                       [](const Check& each) { return each.name == "control group RDMA limit"; });
  };
  EXPECT_FALSE(names_limit(all()));
  root_.write("/sys/fs/cgroup/vm/rdma.max", "rxe0 hca_handle=2 hca_object=max\n");
  EXPECT_TRUE(names_limit(all()));
}

Endpoint endpoint(const std::string& text) {
  return *Endpoint::parse(text);
}

std::vector<Check> way(const std::string& to) {
  const auto options = parse_options(endpoint(to));
  if (!options) {
    ADD_FAILURE() << options.error().message();
    return {Check{}};
  }
  auto checks = examine_way(SystemFiles(), endpoint(to), *options, Deadline::after(10s));
  for (const Check& each : checks) EXPECT_TRUE(each.verdict != Verdict::no || !each.fix.empty()) << each.name;
  return checks;
}

TEST(ExamineWay, SaysThatANameIsUnknown) {
  const auto checks = way("rdma:no-such-host.invalid:4444");
  ASSERT_EQ(checks.size(), 1U);
  EXPECT_EQ(checks[0].verdict, Verdict::no);
  EXPECT_THAT(checks[0].fix, HasSubstr("getent hosts no-such-host.invalid"));
}

TEST(ExamineRdma, NamesAnOptionThatCannotBeHad) {
  const Endpoint lanes = endpoint("rdma:192.0.2.1:4444?lanes=1000"),
                 pin = endpoint("rdma:192.0.2.1:4444?pin=some");
  for (const Endpoint& each : {lanes, pin}) {
    const Check last = examine(SystemFiles(), &each).back();
    EXPECT_EQ(last.name, "options");
    EXPECT_EQ(last.verdict, Verdict::no) << each.to_string();
    EXPECT_NE(last.fix, "");
  }
}

TEST(ExamineWay, SaysWhyThereIsNoRouteWithoutADevice) {
  if (SystemFiles().exists("/dev/infiniband/rdma_cm")) GTEST_SKIP() << "there is a connection manager";
  const auto checks = way("rdma:127.0.0.1:4444");
  ASSERT_FALSE(checks.empty());
  EXPECT_EQ(checks.back().verdict, Verdict::no);
  EXPECT_EQ(checks.back().fix, how_to_get_a_connection_manager(SystemFiles()));
}

TEST(ExamineWay, NamesDeviceGidAndPathMtuAndThatNobodyListens) {
  RAMFERRY_NEED_RDMA();
  const std::string address = *testing::rdma_address();
  const auto checks = way("rdma:" + address + ":1");
  ASSERT_EQ(checks.size(), 3U);
  EXPECT_THAT(checks[1].value, AllOf(HasSubstr(", GID "), HasSubstr(address), HasSubstr("path MTU ")));
  EXPECT_EQ(checks[2].verdict, Verdict::no);
  EXPECT_THAT(checks[2].fix, HasSubstr("--incoming rdma:" + address + ":1"));
}

TEST(ExamineWay, IsRefusedByAListenerThatGoesOnListening) {
  RAMFERRY_NEED_RDMA();
  const std::string address = *testing::rdma_address();
  const auto fabric = make_verbs_fabric();
  const auto acceptor = fabric->listen({address, 0}, {});
  ASSERT_TRUE(acceptor) << acceptor.error().message();
  const std::string uri = "rdma:" + address + ":" + std::to_string((*acceptor)->local().port);
  for (int time = 0; time < 2; ++time) {
    auto examined = std::async(std::launch::async, [&] { return way(uri); });
    auto request = (*acceptor)->next(Deadline::after(10s));
    ASSERT_TRUE(request) << request.error().message();
    const ConstBytes hello = (*request)->hello();
    ASSERT_GE(hello.size(), 8U);
    EXPECT_TRUE(std::all_of(hello.begin(), hello.begin() + 8, [](std::byte each) {
      return each == std::byte{0};
    })) << "neither QEMU's greeting nor ours begins like this";
    (*request)->reject(time == 0 ? std::vector<std::byte>{}
                                 : encode(Answer{.verdict = Answer::Verdict::malformed}));
    const Check connect = examined.get().back();
    EXPECT_EQ(connect.verdict, Verdict::yes);
    EXPECT_THAT(connect.value, HasSubstr(time == 0 ? "somebody listens" : "a ramferry listens"));
  }
}

TEST(ExamineWay, LeavesAQemuAlone) {
  RAMFERRY_NEED_RDMA();
  const std::string address = *testing::rdma_address();
  const auto fabric = make_verbs_fabric();
  const auto acceptor = fabric->listen({address, 0}, {});
  ASSERT_TRUE(acceptor);
  const auto checks =
      way("rdma:" + address + ":" + std::to_string((*acceptor)->local().port) + "?dialect=qemu");
  EXPECT_EQ(checks.back().verdict, Verdict::note);
  const auto request = (*acceptor)->next(Deadline::after(0s));
  EXPECT_FALSE(request) << "no connection was asked for";
}

TEST(ExamineWay, TellsWhetherAPortCanBeListenedOn) {
  RAMFERRY_NEED_RDMA();
  EXPECT_EQ(way("rdma::0").back().verdict, Verdict::yes);
  const auto fabric = make_verbs_fabric();
  const auto acceptor = fabric->listen({"", 0}, {});
  ASSERT_TRUE(acceptor);
  const auto taken = way("rdma::" + std::to_string((*acceptor)->local().port));
  EXPECT_EQ(taken.back().verdict, Verdict::no);
  EXPECT_THAT(taken.back().fix, HasSubstr("another port"));
}

TEST(ExamineWay, HoldsTheRouteAgainstTheDeviceThatWasAskedFor) {
  RAMFERRY_NEED_RDMA();
  const auto checks = way("rdma:" + *testing::rdma_address() + ":1?device=no-such-device");
  ASSERT_EQ(checks.size(), 4U);
  EXPECT_EQ(checks[2].name, "device=no-such-device");
  EXPECT_EQ(checks[2].verdict, Verdict::no);
}

}  // namespace
}  // namespace ramferry::rdma
