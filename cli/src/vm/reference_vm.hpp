// SPDX-License-Identifier: MIT
// The reference VM: guest memory that proves itself, a workload that dirties it, and small devices.
//
// GuestControl calls: one thread at a time. Sweep calls: any thread.
#pragma once

#include "vm/devices.hpp"
#include "vm/disk.hpp"
#include "vm/fill.hpp"
#include "vm/guest_memory.hpp"
#include "vm/page_table.hpp"
#include "vm/sweep.hpp"
#include "vm/table_section.hpp"
#include "vm/workload.hpp"

#include <ramferry/log.hpp>
#include <ramferry/migration/guest.hpp>
#include <ramferry/migration/section.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

namespace ramferry::vm {

struct VmSpec {
  std::uint64_t ram_bytes = std::uint64_t{1} << 30;
  migration::Backing::Kind backing = migration::Backing::Kind::anonymous;
  bool prefault = false;  ///< allocate all memory now, for measurements
  FillSpec fill{};
  WorkloadSpec workload{};
  DiskSpec disk{};
};

/// A mistake put into memory on purpose, behind the table's back: the sweep must find it.
enum class Fault : std::uint8_t {
  wrong_page,       ///< another page's content
  torn_page,        ///< half of a page from another time
  lost_zero,        ///< a page that should be zero still has content
  lost_dirty_mark,  ///< a page as it was before its last change
};
Result<Fault> parse_fault(std::string_view text);

class ReferenceVm final : public migration::GuestControl {
 public:
  /// Maps and fills the memory. The VM is paused.
  static Result<std::unique_ptr<ReferenceVm>> make(const VmSpec& spec, Log& log);
  ~ReferenceVm() override;

  Result<> pause() override;
  /// A VM whose state was loaded sweeps its memory first and then starts its writers; the call does not wait.
  Result<> resume() override;
  bool running() const noexcept override { return running_; }
  void throttle(std::uint8_t percent) override;

  const migration::RamLayout& layout() const noexcept { return memory_.layout(); }
  /// The device state besides RAM, in the order of the wire.
  std::vector<migration::SectionHandler*> sections() { return {&table_section_, &clock_, &serial_}; }
  std::uint64_t pages_written() const noexcept { return workload_.pages_written(); }
  /// For measurements: as if the guest wrote these pages; see Workload::write.
  Result<> write_pages(std::span<const std::uint64_t> pages) { return workload_.write(pages); }
  const ClockDevice& clock() const noexcept { return clock_; }
  Disk* disk() noexcept { return disk_.get(); }  ///< null if it has none
  /// What a network card does for a guest that has moved: noted on the serial port, and counted. Any thread.
  void announce(unsigned round);
  unsigned announcements() const noexcept { return announcements_; }

  /// Checks all memory in the background; the writers wait meanwhile. No effect while one is under way.
  void start_sweep();
  bool sweeping() const noexcept { return sweeping_; }
  /// Of the last sweep that ended.
  std::optional<SweepReport> last_sweep() const;
  /// Called by the sweeping thread with each report. Before the first sweep.
  void when_swept(std::function<void(const SweepReport&)> callback) { when_swept_ = std::move(callback); }

  /// errc::not_found if no page lends itself to it.
  Result<> plant(Fault fault);

 private:
  ReferenceVm(GuestMemory memory, const VmSpec& spec, Log& log);
  void launch_sweep();  ///< under mutex_
  void run_sweep();
  Result<> plant_paused(Fault fault);

  Log& log_;
  GuestMemory memory_;
  PageTable table_;
  TableSection table_section_;
  ClockDevice clock_;
  SerialDevice serial_;
  Workload workload_;
  std::unique_ptr<Disk> disk_;
  std::atomic<unsigned> announcements_ = 0;
  std::function<void(const SweepReport&)> when_swept_;

  mutable std::mutex mutex_;
  std::atomic<bool> running_ = false, sweeping_ = false, cancel_sweep_ = false;
  bool proven_ = false;
  std::optional<SweepReport> last_sweep_;
  std::thread sweeper_;
};

}  // namespace ramferry::vm
