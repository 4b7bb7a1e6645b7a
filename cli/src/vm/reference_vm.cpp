// SPDX-License-Identifier: MIT
#include "vm/reference_vm.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

namespace ramferry::vm {
namespace {

constexpr std::uint64_t kSecondBlockBytes = 2 << 20;

}  // namespace

Result<Fault> parse_fault(std::string_view text) {
  constexpr std::array<std::string_view, 4> kNames = {"wrong-page", "torn-page", "lost-zero",
                                                      "lost-dirty-mark"};
  const auto at = std::find(kNames.begin(), kNames.end(), text);
  if (at == kNames.end())
    return fail(errc::invalid_argument, "reading the fault '" + std::string(text) + "'",
                "use wrong-page, torn-page, lost-zero or lost-dirty-mark");
  return static_cast<Fault>(at - kNames.begin());
}

Result<std::unique_ptr<ReferenceVm>> ReferenceVm::make(const VmSpec& spec, Log& log) {
  RAMFERRY_TRY_ASSIGN(GuestMemory memory,
                      GuestMemory::make({{"ram", spec.ram_bytes}, {"vga", kSecondBlockBytes}}, spec.backing));
  if (spec.prefault) {
    RAMFERRY_TRY(memory.prefault());
  }
  std::unique_ptr<ReferenceVm> vm(new ReferenceVm(std::move(memory), spec, log));
  RAMFERRY_TRY(fill_memory(vm->memory_, vm->table_, spec.fill));
  if (!spec.disk.image.empty()) {
    RAMFERRY_TRY_ASSIGN(vm->disk_, Disk::open(spec.disk));
  }
  return vm;
}

ReferenceVm::ReferenceVm(GuestMemory memory, const VmSpec& spec, Log& log)
    : log_(log),
      memory_(std::move(memory)),
      table_(memory_.layout()),
      table_section_(memory_.layout(), table_),
      workload_(memory_, table_, spec.workload) {}

ReferenceVm::~ReferenceVm() {
  cancel_sweep_ = true;
  if (sweeper_.joinable()) sweeper_.join();
}

Result<> ReferenceVm::pause() {
  const std::lock_guard lock(mutex_);
  if (!running_.exchange(false)) return {};
  workload_.pause();
  if (disk_) disk_->pause();
  clock_.stop();
  serial_.write("paused after " + std::to_string(pages_written()) + " page writes");
  return {};
}

Result<> ReferenceVm::resume() {
  const std::lock_guard lock(mutex_);
  if (running_.exchange(true)) return {};
  clock_.start();
  serial_.write("running");
  if (disk_) disk_->resume();
  if (sweeping_) return {};
  if (table_section_.loaded() && !proven_) {
    launch_sweep();
  } else {
    workload_.resume();
  }
  return {};
}

void ReferenceVm::throttle(std::uint8_t percent) {
  workload_.throttle(std::min<std::uint8_t>(percent, 99));
}

void ReferenceVm::announce(unsigned round) {
  serial_.write("announced, round " + std::to_string(round));
  ++announcements_;
}

void ReferenceVm::start_sweep() {
  const std::lock_guard lock(mutex_);
  if (sweeping_) return;
  workload_.pause();
  launch_sweep();
}

void ReferenceVm::launch_sweep() {
  if (sweeper_.joinable()) sweeper_.join();  // it ended: sweeping_ is false
  sweeping_ = true;
  sweeper_ = std::thread([this] { run_sweep(); });
}

void ReferenceVm::run_sweep() {
  const SweepReport report = sweep(memory_, table_, cancel_sweep_);
  if (cancel_sweep_) return;
  if (report.wrong() == 0) {
    log_.info("sweep: " + describe(report));
  } else {
    log_.error("sweep: " + describe(report));
  }
  {
    const std::lock_guard lock(mutex_);
    last_sweep_ = report;
    proven_ = true;
    sweeping_ = false;
    if (running_) workload_.resume();
  }
  if (when_swept_) when_swept_(report);
}

std::optional<SweepReport> ReferenceVm::last_sweep() const {
  const std::lock_guard lock(mutex_);
  return last_sweep_;
}

Result<> ReferenceVm::plant(Fault fault) {
  const std::lock_guard lock(mutex_);
  if (sweeping_) return fail(errc::wrong_state, "planting a fault while a sweep is under way");
  workload_.pause();
  auto planted = plant_paused(fault);
  if (running_) workload_.resume();
  return planted;
}

Result<> ReferenceVm::plant_paused(Fault fault) {
  const PageKind wanted = fault == Fault::lost_zero ? PageKind::zero : PageKind::stamped;
  for (std::uint64_t number = 0; number + 1 < table_.pages(); ++number) {
    const auto at = table_.locate(number);
    const PageEntry entry = table_.get(at.block, at.first);
    const Bytes page = memory_.page(at.block, at.first);
    if (entry.kind != wanted || (wanted == PageKind::stamped && entry.generation < 2)) continue;
    switch (fault) {
      case Fault::wrong_page: stamp_page(page, place_of(at.block, at.first + 1), entry.generation); break;
      case Fault::torn_page: std::memset(page.data(), 0xa5, kPageBytes / 2); break;
      case Fault::lost_zero: stamp_page(page, place_of(at.block, at.first), entry.generation - 1); break;
      case Fault::lost_dirty_mark:
        stamp_page(page, place_of(at.block, at.first), entry.generation - 1);
        break;
    }
    return {};
  }
  return fail(errc::not_found, "planting a fault: no page lends itself to it",
              "let the workload run for a moment");
}

}  // namespace ramferry::vm
