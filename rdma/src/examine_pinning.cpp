// SPDX-License-Identifier: MIT
// How much memory this process may pin.
#include "examine.hpp"

#include <algorithm>

namespace ramferry::rdma {
namespace {

using Verdict = Check::Verdict;

// Below this no guest worth the name can be pinned as a whole.
constexpr std::uint64_t kSmallGuest = 256ULL << 20;

std::string size_or_unlimited(std::uint64_t bytes) {
  return bytes == kUnlimited ? "unlimited" : format_size(bytes);
}

Check check_lock_limit(const SystemFiles& files, Pin pin) {
  const std::string name = "memory lock limit";
  const LockLimit limit = lock_limit(files);
  const std::string limits =
      size_or_unlimited(limit.soft) + " (hard limit " + size_or_unlimited(limit.hard) + ")";
  if (limit.exempt) return {name, Verdict::yes, "does not bind: CAP_IPC_LOCK; it is " + limits, {}};
  if (limit.soft == kUnlimited) return {name, Verdict::yes, "unlimited", {}};
  const std::string fix =
      (limit.hard == kUnlimited ? std::string("ulimit -l unlimited")
                                : std::string("prlimit --pid $$ --memlock=unlimited:unlimited (as root)")) +
      ", then start the VM from that shell; for a service: LimitMEMLOCK=infinity in its unit";
  if (pin == Pin::demand)
    return {name, Verdict::note, limits + ", no CAP_IPC_LOCK: pin=demand stays below it, pin=all would not",
            fix};
  const bool small = limit.soft < kSmallGuest;
  return {name, small ? Verdict::no : Verdict::note,
          limits + ", no CAP_IPC_LOCK: pin=all needs the size of the guest, pin=demand works with less", fix};
}

Check check_group_limit(const SystemFiles& files) {
  const std::string name = "control group memory limit";
  const auto limit = group_memory_limit(files);
  if (!limit) return {name, Verdict::yes, "none", {}};
  return {name, Verdict::note, format_size(limit->bytes) + ": guest memory, pinned or not, counts",
          "echo max > " + limit->file + " (as root), or in the unit: MemoryMax=infinity"};
}

/// The rdma controller can deny objects and handles; where a limit is set, it is set for a reason.
std::vector<Check> check_group_objects(const SystemFiles& files) {
  std::vector<Check> checks;
  const std::string group = files.field("/proc/self/cgroup", "0").value_or("");
  const std::size_t path = group.find('/');
  if (path == group.npos) return checks;
  const std::string file =
      "/sys/fs/cgroup" + (group.substr(path) == "/" ? "" : group.substr(path)) + "/rdma.max";
  const auto words = words_of(files.text(file).value_or(""));
  const bool limited = std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word.find('=') != word.npos && !word.ends_with("=max");
  });
  if (!limited) return checks;
  std::string found;
  for (const std::string& word : words) found += (found.empty() ? "" : " ") + word;
  checks.push_back({"control group RDMA limit", Verdict::note,
                    found + ": every queue pair and region is an object",
                    "echo \"DEVICE hca_handle=max hca_object=max\" > " + file + " (as root)"});
  return checks;
}

}  // namespace

std::vector<Check> examine_pinning(const SystemFiles& files, Pin pin) {
  std::vector<Check> checks = {check_lock_limit(files, pin), check_group_limit(files)};
  for (Check& each : check_group_objects(files)) checks.push_back(std::move(each));
  return checks;
}

std::vector<Check> examine_machine(const SystemFiles& files, std::span<const DeviceReport> reports, Pin pin) {
  std::vector<Check> checks = {examine_modules(files)};
  for (Check& each : examine_devices(files, reports)) checks.push_back(std::move(each));
  for (Check& each : examine_pinning(files, pin)) checks.push_back(std::move(each));
  return checks;
}

}  // namespace ramferry::rdma
