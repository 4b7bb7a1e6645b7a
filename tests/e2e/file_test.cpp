// SPDX-License-Identifier: MIT
// QEMU's dialect: a machine saved to a file or through a command is read by an independent reader, and
// restored.
#include "reporting_rig.hpp"
#include "support/temp_folder.hpp"

#include <ramferry/posix_transport.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <array>
#include <cstdio>
#include <filesystem>

namespace ramferry::test {
namespace {

using namespace ramferry::migration;
namespace fs = std::filesystem;

std::string output_of(const std::string& command) {
  std::string text;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> piece;
  while (const std::size_t got = std::fread(piece.data(), 1, piece.size(), pipe))
    text.append(piece.data(), got);
  EXPECT_EQ(::pclose(pipe), 0) << command;
  return text;
}

TransportCatalog posix(Log& log) {
  TransportCatalog transports;
  transports.add(make_posix_transport(log));
  return transports;
}

const FakeVm::Options kMachine = {.pages = {600, 20}, .seed = 21, .writers = 1, .writes_per_second = 5'000};

TEST(File, IsReadByAnIndependentReaderPageByPage) {
  TempFolder folder;
  NullLog log;
  ReportingRig reporting({.vm = kMachine});
  const Outcome outcome = reporting.rig.save(posix(log), "file:" + folder.path("state"));
  ASSERT_TRUE(outcome.source) << outcome.source.error().message();
  EXPECT_FALSE(outcome.source_runs) << "a saved guest stays paused";

  const auto summary = nlohmann::json::parse(
      output_of("python3 " RAMFERRY_SAVEVM_READER " --memory " + folder.path() + " " + folder.path("state")));
  EXPECT_EQ(summary["machine"], "ramferry-1");
  EXPECT_EQ(summary["records"]["page"], outcome.source_status.pages.normal);
  ASSERT_EQ(summary["sections"].size(), 1u);
  EXPECT_EQ(summary["sections"][0]["name"], "globalstate");
  EXPECT_EQ(summary["sections"][0]["bytes"], 104);
  ASSERT_EQ(summary["blocks"].size(), 2u);
  for (const RamBlock& block : reporting.rig.source.layout().blocks()) {
    EXPECT_EQ(summary["blocks"][block.name]["bytes"], block.host.size());
    EXPECT_TRUE(std::ranges::equal(as_bytes(read_file(folder.path(block.name + ".ram"))), block.host))
        << block.name;
  }
}

TEST(File, RestoresTheMachine) {
  TempFolder folder;
  NullLog log;
  ReportingRig reporting({.vm = kMachine});
  ASSERT_TRUE(reporting.rig.save(posix(log), "file:" + folder.path("state")).source);
  const Outcome restored = reporting.rig.restore(posix(log), "file:" + folder.path("state"));
  ASSERT_TRUE(restored.destination) << restored.destination.error().message();
  EXPECT_TRUE(restored.destination_owns);
  EXPECT_EQ(reporting.difference(), std::nullopt);
}

TEST(File, CutAnywhereIsRefusedAndNeverRuns) {
  TempFolder folder;
  NullLog log;
  ReportingRig reporting({.vm = {.pages = {16, 1}, .seed = 2}});
  ASSERT_TRUE(reporting.rig.save(posix(log), "file:" + folder.path("state")).source);
  const auto size = fs::file_size(folder.path("state"));
  for (std::uintmax_t length = 0; length + 400 < size; length += 997) {
    fs::copy_file(folder.path("state"), folder.path("cut"), fs::copy_options::overwrite_existing);
    fs::resize_file(folder.path("cut"), length);
    const Outcome outcome = reporting.rig.restore(posix(log), "file:" + folder.path("cut"));
    EXPECT_FALSE(outcome.destination);
    EXPECT_FALSE(outcome.destination_owns);
  }
}

TEST(File, ThatCannotBeWrittenLeavesTheGuestRunning) {
  NullLog log;
  ReportingRig reporting({.vm = kMachine});
  const Outcome missing = reporting.rig.save(posix(log), "file:/nowhere/state");
  EXPECT_FALSE(missing.source);
  EXPECT_TRUE(missing.source_runs);
  ReportingRig full({.vm = kMachine});
  const Outcome no_space = full.rig.save(posix(log), "exec:cat > /dev/full");
  EXPECT_FALSE(no_space.source);
  EXPECT_TRUE(no_space.source_runs);
}

TEST(File, OfACancelledMigrationIsNotThere) {
  TempFolder folder;
  NullLog log;
  ReportingRig reporting({.vm = kMachine, .limits = {.bandwidth = 100'000}});
  reporting.rig.meanwhile = [](OutgoingMigration& outgoing) {
    while (outgoing.status().pages.normal == 0) std::this_thread::yield();
    outgoing.cancel();
  };
  const Outcome outcome = reporting.rig.save(posix(log), "file:" + folder.path("state"));
  ASSERT_FALSE(outcome.source);
  EXPECT_TRUE(outcome.source.error().is(errc::cancelled));
  EXPECT_TRUE(outcome.source_runs);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Exec, ThatFailsInTheEndGivesTheGuestBack) {
  NullLog log;
  ReportingRig reporting({.vm = kMachine});
  const Outcome outcome = reporting.rig.save(posix(log), "exec:cat > /dev/null; exit 3");
  EXPECT_FALSE(outcome.source);
  EXPECT_TRUE(outcome.source_runs);
}

TEST(Exec, SavesAndRestoresThroughCommands) {
  TempFolder folder;
  NullLog log;
  ReportingRig reporting({.vm = kMachine});
  ASSERT_TRUE(reporting.rig.save(posix(log), "exec:gzip -c > " + folder.path("state.gz")).source);
  const Outcome restored = reporting.rig.restore(posix(log), "exec:gunzip -c " + folder.path("state.gz"));
  ASSERT_TRUE(restored.destination) << restored.destination.error().message();
  EXPECT_EQ(reporting.difference(), std::nullopt);
}

}  // namespace
}  // namespace ramferry::test
