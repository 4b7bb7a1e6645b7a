// SPDX-License-Identifier: MIT
// Whole migrations over a real device, one after another in one process: nothing of them is left.
#include "e2e/reporting_rig.hpp"
#include "rdma_host.hpp"
#include "support/test_memory.hpp"

#include <ramferry/rdma/transport.hpp>

#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace ramferry::rdma {
namespace {

/// What this process has open, registered and resident.
struct Holdings {
  std::size_t descriptors = 0, registrations = 0, threads = 0;
  std::uint64_t heap_bytes = 0, resident_bytes = 0;
};

std::size_t entries(const char* folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

/// By the kernel's own count: all programs', and there are no others while this runs.
std::size_t registrations() {
  FILE* const told = popen("rdma resource show mr", "r");
  if (told == nullptr) return ~0U;
  std::size_t lines = 0;
  for (int c = std::fgetc(told); c != EOF; c = std::fgetc(told)) lines += c == '\n' ? 1 : 0;
  EXPECT_EQ(pclose(told), 0) << "rdma resource show mr";
  return lines;
}

Holdings holdings() {
  Holdings now{entries("/proc/self/fd"), registrations(), entries("/proc/self/task"), 0, 0};
  malloc_trim(0);  // what is free and kept for the next allocation is no leak
  const struct mallinfo2 heap = mallinfo2();
  now.heap_bytes = heap.uordblks + heap.hblkhd;
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0, resident = 0;
  statm >> size >> resident;
  now.resident_bytes = resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return now;
}

void migrate_once(const TransportCatalog& transports, const std::string& options) {
  test::ReportingRig reporting({.vm = {.pages = {512}, .seed = 7, .writers = 1, .writes_per_second = 2000}});
  const test::Outcome outcome =
      reporting.rig.migrate(transports, "rdma:" + *testing::rdma_address() + ":0?" + options);
  ASSERT_TRUE(outcome.source) << outcome.source.error().message();
  ASSERT_TRUE(outcome.destination) << outcome.destination.error().message();
  test::expect_one_owner(outcome, reporting);
}

TEST(VerbsMigration, ManyInARowLeaveNothingBehind) {
  RAMFERRY_NEED_RDMA();
  NullLog log;
  TransportCatalog transports;
  transports.add(make_rdma_transport(log));
  const char* const ways[] = {"lanes=2", "lanes=1&pin=demand&pin-budget=1M"};
  for (const char* way : ways) migrate_once(transports, way);  // what is made once
  const Holdings before = holdings();
  const unsigned count = test::repetitions(10, 100);
  for (unsigned i = 0; i < count && !::testing::Test::HasFailure(); ++i)
    migrate_once(transports, ways[i % 2]);
  const Holdings after = holdings();
  EXPECT_EQ(after.descriptors, before.descriptors);
  EXPECT_EQ(after.threads, before.threads);
  EXPECT_EQ(after.registrations, before.registrations);
  EXPECT_EQ(after.registrations, 0U);
  EXPECT_LT(after.heap_bytes, before.heap_bytes + (512 << 10)) << "a channel's buffers are three times that";
  EXPECT_LT(after.resident_bytes, before.resident_bytes + (16 << 20)) << "ten guests are 20 MiB at each end";
}

}  // namespace
}  // namespace ramferry::rdma
