// SPDX-License-Identifier: MIT
// What every migration needs of a machine, whatever carries it.
#include "diagnosis.hpp"

#include <ramferry/endpoint.hpp>
#include <ramferry/migration/dirty_tracker.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace ramferry::cli {
namespace {

using Verdict = Check::Verdict;

constexpr std::uint64_t kEnoughFiles = 1024;  // 64 lanes at both ends, and room
constexpr unsigned kTraceProcesses = 19;      // CAP_SYS_PTRACE: its number is ABI

Check check_processor(const SystemFiles& files) {
  const std::string text = files.text("/proc/cpuinfo").value_or("");
  std::size_t count = 0;
  for (std::size_t at = text.find("processor"); at != text.npos; at = text.find("\nprocessor", at + 1))
    ++count;
  const auto flags = words_of(files.field("/proc/cpuinfo", "flags").value_or(""));
  const bool wide = std::find(flags.begin(), flags.end(), "avx2") != flags.end();
  return {"processor",
          wide ? Verdict::yes : Verdict::note,
          std::to_string(count) + " x " +
              files.field("/proc/cpuinfo", "model name").value_or("unknown model") +
              (wide ? ", AVX2" : ", no AVX2: zero pages are found more slowly"),
          {}};
}

std::uint64_t memory_field(const SystemFiles& files, std::string_view key) {
  const auto words = words_of(files.field("/proc/meminfo", key).value_or(""));
  return words.empty() ? 0 : std::strtoull(words[0].c_str(), nullptr, 10) * 1024;
}

Check check_memory(const SystemFiles& files) {
  return {"memory",
          Verdict::note,
          format_size(memory_field(files, "MemTotal")) + ", " +
              format_size(memory_field(files, "MemAvailable")) + " available",
          {}};
}

Check check_open_files(const SystemFiles& files) {
  const auto words = words_of(files.field("/proc/self/limits", "Max open files").value_or(""));
  if (words.empty()) return {"open files", Verdict::note, "the kernel does not tell the limit", {}};
  const bool unlimited = words[0] == "unlimited";
  const std::uint64_t limit = std::strtoull(words[0].c_str(), nullptr, 10);
  if (unlimited || limit >= kEnoughFiles) return {"open files", Verdict::yes, "up to " + words[0], {}};
  return {"open files", Verdict::note, "up to " + words[0] + ": too few for many lanes",
          "ulimit -n " + std::to_string(kEnoughFiles)};
}

Check check_clock(const SystemFiles& files) {
  constexpr std::string_view kFolder = "/sys/devices/system/clocksource/clocksource0/";
  const std::string name = files.line(std::string(kFolder) + "current_clocksource").value_or("unknown");
  // These are asked by a slow device register, at every time stamp.
  constexpr std::array<std::string_view, 4> kSlow = {"hpet", "acpi_pm", "pit", "jiffies"};
  if (std::find(kSlow.begin(), kSlow.end(), name) == kSlow.end()) return {"clock", Verdict::yes, name, {}};
  const auto others = words_of(files.line(std::string(kFolder) + "available_clocksource").value_or(""));
  const auto fast = std::find_if(others.begin(), others.end(), [&](const std::string& each) {
    return std::find(kSlow.begin(), kSlow.end(), each) == kSlow.end();
  });
  return {"clock", Verdict::note, name + ": slow to read, measurements suffer",
          fast == others.end() ? "" : "echo " + *fast + " > " + std::string(kFolder) + "current_clocksource"};
}

/// The word in brackets: "always [madvise] never".
std::string chosen(const SystemFiles& files, const std::string& file) {
  const std::string line = files.line(file).value_or("");
  const std::size_t start = line.find('[');
  return start == line.npos ? "" : line.substr(start + 1, line.find(']', start) - start - 1);
}

Check check_transparent(const SystemFiles& files, const std::string& name, const std::string& setting,
                        const std::string& better) {
  const std::string file = "/sys/kernel/mm/transparent_hugepage/" + setting;
  const std::string mode = chosen(files, file);
  if (mode.empty()) return {name, Verdict::note, "this kernel has none", {}};
  if (mode != "never" && mode != "deny") return {name, Verdict::yes, mode, {}};
  return {name, Verdict::note,
          mode + ": guest memory gets small pages, which are slower to fault in and to pin",
          "echo " + better + " > " + file};
}

Check check_pool(const SystemFiles& files, const std::string& folder) {
  const std::string path = "/sys/kernel/mm/hugepages/" + folder + "/";
  // "hugepages-2048kB"
  const std::string digits = folder.substr(std::min(folder.find('-') + 1, folder.size()));
  const std::string name =
      "pool of " + format_size(std::strtoull(digits.c_str(), nullptr, 10) * 1024) + " pages";
  const std::uint64_t all = files.number(path + "nr_hugepages").value_or(0);
  if (all == 0)
    return {name, Verdict::note, "none reserved: only for VMs that ask for hugetlb memory",
            "echo COUNT > " + path + "nr_hugepages"};
  return {name,
          Verdict::note,
          std::to_string(files.number(path + "free_hugepages").value_or(0)) + " of " + std::to_string(all) +
              " free",
          {}};
}

Check check_userfaultfd(const SystemFiles& files) {
  const std::string name = "userfaultfd for this user";
  const std::string capabilities = files.field("/proc/self/status", "CapEff").value_or("0");
  if (((std::strtoull(capabilities.c_str(), nullptr, 16) >> kTraceProcesses) & 1) != 0)
    return {name, Verdict::yes, "CAP_SYS_PTRACE", {}};
  if (files.may_open("/dev/userfaultfd")) return {name, Verdict::yes, "/dev/userfaultfd may be opened", {}};
  const auto all = files.number("/proc/sys/vm/unprivileged_userfaultfd");
  if (all == 1U) return {name, Verdict::yes, "vm.unprivileged_userfaultfd = 1", {}};
  return {name, Verdict::note, "only for faults of programs, not of system calls: enough for pagemap-scan",
          files.exists("/dev/userfaultfd") ? "setfacl -m u:$USER:rw /dev/userfaultfd (as root)"
                                           : "sysctl -w vm.unprivileged_userfaultfd=1 (as root)"};
}

Check check_kvm(const SystemFiles& files) {
  const std::string name = "KVM's dirty log";
  if (files.may_open("/dev/kvm"))
    return {name, Verdict::note, "/dev/kvm may be opened: a VMM can lend its log", {}};
  if (files.exists("/dev/kvm"))
    return {name, Verdict::note, "/dev/kvm may not be opened by this user",
            "usermod -aG kvm $USER (as root)"};
  return {name, Verdict::note, "no /dev/kvm: guests are emulated, or are none of the kernel's", {}};
}

}  // namespace

CheckGroup diagnose_machine(const SystemFiles& files) {
  return {
      "machine",
      {{"kernel", Verdict::note, "Linux " + files.line("/proc/sys/kernel/osrelease").value_or("unknown"), {}},
       check_processor(files),
       check_memory(files),
       check_open_files(files),
       check_clock(files)}};
}

CheckGroup diagnose_huge_pages(const SystemFiles& files) {
  CheckGroup group{"huge pages",
                   {check_transparent(files, "anonymous memory", "enabled", "madvise"),
                    check_transparent(files, "shared memory (memfd)", "shmem_enabled", "advise")}};
  for (const std::string& folder : files.list("/sys/kernel/mm/hugepages"))
    group.checks.push_back(check_pool(files, folder));
  return group;
}

CheckGroup diagnose_tracking(const SystemFiles& files) {
  using migration::TrackerKind;
  return {
      "dirty tracking",
      {to_check("pagemap-scan", migration::probe_tracker(TrackerKind::pagemap_scan),
                "a trial write was seen"),
       to_check("userfaultfd", migration::probe_tracker(TrackerKind::userfaultfd), "a trial write was seen"),
       check_userfaultfd(files), check_kvm(files)}};
}

}  // namespace ramferry::cli
