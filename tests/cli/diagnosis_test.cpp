// SPDX-License-Identifier: MIT
#include "diagnosis.hpp"

#include "../support/fake_root.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace ramferry::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Verdict = Check::Verdict;

/// A transport whose findings the test chooses.
class FakeTransport final : public Transport {
 public:
  FakeTransport(std::string_view scheme, std::vector<Check> checks)
      : scheme_{scheme}, checks_(std::move(checks)) {}
  std::span<const std::string_view> schemes() const noexcept override { return scheme_; }
  std::span<const OptionSpec> options() const noexcept override { return kOptions; }
  Result<> probe() const override { return {}; }
  std::vector<Check> examine(const Endpoint* to) const override {
    auto checks = checks_;
    if (to != nullptr) checks.push_back({"connect to " + to->to_string(), Verdict::yes, "", ""});
    return checks;
  }
  Result<Link> connect(const Endpoint&, SessionId, Deadline) override {
    return fail(errc::unsupported, "testing");
  }
  Result<std::unique_ptr<Listener>> listen(const Endpoint&) override {
    return fail(errc::unsupported, "testing");
  }

 private:
  static constexpr std::array<OptionSpec, 1> kOptions = {{{"lanes", "1-64", "connections"}}};
  std::array<std::string_view, 1> scheme_;
  std::vector<Check> checks_;
};

const Check kGood{"sockets", Verdict::yes, "carry a byte", ""};
const Check kBad{"device", Verdict::no, "there is none", "rdma link add rxe0 type rxe netdev eth0"};

TransportCatalog catalog(Check tcp, Check rdma) {
  TransportCatalog made;
  made.add(std::make_unique<FakeTransport>("tcp", std::vector{std::move(tcp)}));
  made.add(std::make_unique<FakeTransport>("rdma", std::vector{std::move(rdma)}));
  return made;
}

Diagnosis diagnosed(const TransportCatalog& transports, const std::string& uri = "") {
  auto found = diagnose(transports, SystemFiles(), uri);
  if (!found) {
    ADD_FAILURE() << found.error().message();
    return {};
  }
  return std::move(*found);
}

const CheckGroup& group(const Diagnosis& diagnosis, const std::string& title) {
  for (const CheckGroup& each : diagnosis.groups)
    if (each.title == title) return each;
  ADD_FAILURE() << "no group " << title;
  return diagnosis.groups.front();
}

Check check(const CheckGroup& from, const std::string& name) {
  for (const Check& each : from.checks)
    if (each.name == name) return each;
  ADD_FAILURE() << "no check " << name;
  return {};
}

TEST(Diagnosis, NeedsSocketsAndOneTrackerOnly) {
  const Diagnosis without_rdma = diagnosed(catalog(kGood, kBad));
  EXPECT_EQ(group(without_rdma, "tcp:").need, CheckGroup::Need::all);
  EXPECT_EQ(group(without_rdma, "dirty tracking").need, CheckGroup::Need::any);
  EXPECT_TRUE(group(without_rdma, "rdma:").works());
  EXPECT_FALSE(group(diagnosed(catalog(kBad, kGood)), "tcp:").works());
  EXPECT_FALSE(diagnosed(catalog(kBad, kGood)).works());
}

TEST(Diagnosis, TellsAnyFromAll) {
  using Need = CheckGroup::Need;
  const Check note{"clock", Verdict::note, "", ""};
  EXPECT_TRUE(CheckGroup({"", {kBad, kGood}, Need::any}).works());
  EXPECT_FALSE(CheckGroup({"", {kBad, note}, Need::any}).works());
  EXPECT_FALSE(CheckGroup({"", {kBad, kGood}, Need::all}).works());
  EXPECT_TRUE(CheckGroup({"", {note, kGood}, Need::all}).works());
  EXPECT_TRUE(CheckGroup({"", {kBad}, Need::nothing}).works());
}

TEST(Diagnosis, NeedsTheTransportOfAUri) {
  EXPECT_TRUE(diagnosed(catalog(kBad, kGood), "rdma:10.0.0.7:4444").works());
  const Diagnosis broken = diagnosed(catalog(kGood, kBad), "rdma:10.0.0.7:4444?lanes=4");
  EXPECT_FALSE(broken.works());
  EXPECT_EQ(broken.groups.back().title, "rdma:");
  EXPECT_EQ(broken.groups.back().checks.back().name, "connect to rdma:10.0.0.7:4444?lanes=4");
  for (const CheckGroup& each : broken.groups) EXPECT_NE(each.title, "tcp:");
}

TEST(Diagnosis, RefusesAUriThatNobodyUnderstands) {
  for (const char* uri : {"carrier-pigeon:coop", "tcp:nowhere", "rdma:10.0.0.7:4444?lane=4"}) {
    const auto refused = diagnose(catalog(kGood, kGood), SystemFiles(), uri);
    ASSERT_FALSE(refused.has_value()) << uri;
    EXPECT_TRUE(refused.error().is(errc::invalid_argument)) << uri;
  }
}

TEST(Diagnosis, SaysWhenRdmaWasLeftOutOfTheBuild) {
  TransportCatalog sockets_only;
  sockets_only.add(std::make_unique<FakeTransport>("tcp", std::vector{kGood}));
  EXPECT_THAT(group(diagnosed(sockets_only), "rdma:").checks[0].fix, HasSubstr("libibverbs-dev"));
}

TEST(Diagnosis, TriesTheTrackersOfThisKernel) {
  const CheckGroup tracking = diagnose_tracking(SystemFiles());
  EXPECT_TRUE(CheckGroup({"", tracking.checks, CheckGroup::Need::any}).works())
      << "the tests of the trackers need one as well";
  for (const Check& each : tracking.checks)
    EXPECT_TRUE(each.verdict != Verdict::no || !each.fix.empty()) << each.name << ": " << each.value;
}

TEST(DiagnosisText, PutsEachFixBelowItsFindingAndTheVerdictLast) {
  const Diagnosis diagnosis{"", {{"tcp:", {kGood}, CheckGroup::Need::all}, {"rdma:", {kBad}}}};
  EXPECT_EQ(to_text(diagnosis),
            "tcp:\n"
            "  yes   sockets  carry a byte\n"
            "\n"
            "rdma:\n"
            "  no    device   there is none\n"
            "        fix: rdma link add rxe0 type rxe netdev eth0\n"
            "\n"
            "this machine can migrate guests; what does not work here: see 'no' under rdma:\n");
}

TEST(DiagnosisText, NamesTheGroupThatFails) {
  const Diagnosis diagnosis{"rdma:h:1", {{"rdma:", {kBad}, CheckGroup::Need::all}}};
  EXPECT_THAT(to_text(diagnosis), HasSubstr("rdma:h:1 does not work yet: see 'no' under rdma:\n"));
}

TEST(DiagnosisJson, HasAFixedShape) {
  const Diagnosis diagnosis{"rdma:h:1", {{"rdma:", {kBad}, CheckGroup::Need::all}}};
  EXPECT_EQ(to_json(diagnosis).dump(),
            R"({"uri":"rdma:h:1","works":false,"groups":[{"title":"rdma:","need":"all","works":false,)"
            R"("checks":[{"name":"device","verdict":"no","value":"there is none",)"
            R"("fix":"rdma link add rxe0 type rxe netdev eth0"}]}]})");
}

/// Reads a machine out of files.
class DiagnoseMachine : public ::testing::Test {
 protected:
  DiagnoseMachine() {
    root_.write("/proc/sys/kernel/osrelease", "6.1.0\n");
    root_.write("/proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Fast\nflags\t\t: sse2 avx2\n\nprocessor\t: 1\n");
    root_.write("/proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n");
    root_.write("/proc/self/limits",
                "Max open files            1048576              1048576              files\n");
    root_.write(kClock + "current_clocksource", "tsc\n");
    root_.write(kHuge + "enabled", "always [madvise] never\n");
  }
  Check machine(const std::string& name) const { return check(diagnose_machine(root_.files()), name); }
  Check huge(const std::string& name) const { return check(diagnose_huge_pages(root_.files()), name); }

  const std::string kClock = "/sys/devices/system/clocksource/clocksource0/";
  const std::string kHuge = "/sys/kernel/mm/transparent_hugepage/";
  test::FakeRoot root_;
};

TEST_F(DiagnoseMachine, TellsProcessorAndMemory) {
  EXPECT_EQ(machine("processor").value, "2 x Fast, AVX2");
  EXPECT_EQ(machine("memory").value, "16 GiB, 8 GiB available");
  EXPECT_EQ(machine("kernel").value, "Linux 6.1.0");
}

TEST_F(DiagnoseMachine, RaisesAScarceNumberOfOpenFiles) {
  EXPECT_EQ(machine("open files").verdict, Verdict::yes);
  root_.write("/proc/self/limits", "Max open files            256              4096              files\n");
  EXPECT_EQ(machine("open files").fix, "ulimit -n 1024");
}

TEST_F(DiagnoseMachine, NamesAFasterClock) {
  EXPECT_EQ(machine("clock").verdict, Verdict::yes);
  root_.write(kClock + "current_clocksource", "hpet\n");
  root_.write(kClock + "available_clocksource", "hpet kvm-clock acpi_pm\n");
  EXPECT_EQ(machine("clock").fix, "echo kvm-clock > " + kClock + "current_clocksource");
}

TEST_F(DiagnoseMachine, TurnsHugePagesOn) {
  EXPECT_EQ(huge("anonymous memory").verdict, Verdict::yes);
  EXPECT_THAT(huge("shared memory (memfd)").value, HasSubstr("none"));
  root_.write(kHuge + "enabled", "always madvise [never]\n");
  EXPECT_EQ(huge("anonymous memory").fix, "echo madvise > " + kHuge + "enabled");
  root_.write(kHuge + "shmem_enabled", "always within_size advise [never] deny force\n");
  EXPECT_EQ(huge("shared memory (memfd)").fix, "echo advise > " + kHuge + "shmem_enabled");
}

TEST_F(DiagnoseMachine, CountsThePoolsOfHugePages) {
  const std::string pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  root_.write(pool + "nr_hugepages", "0\n");
  EXPECT_THAT(huge("pool of 2 MiB pages").fix, HasSubstr("echo COUNT > " + pool + "nr_hugepages"));
  root_.write(pool + "nr_hugepages", "512\n");
  root_.write(pool + "free_hugepages", "500\n");
  EXPECT_EQ(huge("pool of 2 MiB pages").value, "500 of 512 free");
}

TEST_F(DiagnoseMachine, TellsWhoMayUseUserfaultfd) {
  const auto userfaultfd = [&] {
    return check(diagnose_tracking(root_.files()), "userfaultfd for this user");
  };
  EXPECT_EQ(userfaultfd().verdict, Verdict::note);
  EXPECT_THAT(userfaultfd().fix, HasSubstr("sysctl -w vm.unprivileged_userfaultfd=1"));
  root_.write("/proc/sys/vm/unprivileged_userfaultfd", "1\n");
  EXPECT_EQ(userfaultfd().verdict, Verdict::yes);
  root_.write("/proc/sys/vm/unprivileged_userfaultfd", "0\n");
  root_.write("/proc/self/status", "CapEff:\t0000000000080000\n");
  EXPECT_EQ(userfaultfd().value, "CAP_SYS_PTRACE");
}

}  // namespace
}  // namespace ramferry::cli
