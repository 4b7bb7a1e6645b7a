// SPDX-License-Identifier: MIT
// Where dirtiness comes from. See "Clear before read", "Register, arm, read" and "Every writer reports" in
// docs/design-notes.md.
#pragma once

#include <ramferry/log.hpp>
#include <ramferry/migration/dirty_set.hpp>
#include <ramferry/migration/ram_block.hpp>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ramferry::migration {

/// One source of dirty marks. arm, harvest and stop: the migration thread. The layout outlives the tracker.
class DirtyTracker {
 public:
  virtual ~DirtyTracker() = default;
  /// "pagemap-scan", "userfaultfd", "vmm-log", "marked".
  virtual std::string_view name() const noexcept = 0;
  /// Writes to `run` that happen after this returned are reported by a later harvest.
  virtual Result<> arm(const PageRun& run) = 0;
  /// Adds the armed pages written since they were armed or last harvested to `into`, and clears their marks
  /// *before* it returns: a write that races with reading the page is reported next time. May report too
  /// much, never too little.
  virtual Result<> harvest(DirtySet& into) = 0;
  /// Ends tracking and leaves the memory fully writable. Idempotent.
  virtual void stop() noexcept = 0;
};

/// Marks from writers that page tables do not see: device DMA, other processes, second mappings. Also from
/// those who discard pages (MADV_DONTNEED, hole punching): what was there reads as zeros now.
class MarkedWrites final : public DirtyTracker {
 public:
  explicit MarkedWrites(const RamLayout& layout);
  ~MarkedWrites() override;
  /// Any thread; after the write. Rounds out to whole pages.
  void mark(std::uint32_t block, std::uint64_t offset, std::uint64_t length) noexcept;

  std::string_view name() const noexcept override { return "marked"; }
  Result<> arm(const PageRun& run) override;
  Result<> harvest(DirtySet& into) override;
  void stop() noexcept override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A VMM's own dirty log (KVM, vhost …) by callback.
struct VmmLog {
  std::function<Result<>(const PageRun&)> arm;
  std::function<Result<>(DirtySet& into)> harvest;  ///< get and clear
  std::function<void()> stop;
};

/// How the kernel's page tables are asked. `automatic` is the first that works, in this order.
enum class TrackerKind : std::uint8_t { automatic, pagemap_scan, userfaultfd };

/// Whether this kernel offers it to this process; if not, why, and what would help. For `ramferry doctor`
/// too.
Result<> probe_tracker(TrackerKind kind);
Result<std::unique_ptr<DirtyTracker>> make_pagemap_scan_tracker(const RamLayout& layout);
Result<std::unique_ptr<DirtyTracker>> make_userfaultfd_tracker(const RamLayout& layout);
std::unique_ptr<DirtyTracker> make_vmm_log_tracker(VmmLog log);
/// `automatic` logs which one it chose, and why not the ones before.
Result<std::unique_ptr<DirtyTracker>> make_tracker(TrackerKind kind, const RamLayout& layout, Log& log);

/// Several sources as one: armed and stopped together, harvests merged. Borrows its parts.
std::unique_ptr<DirtyTracker> merge_trackers(std::vector<DirtyTracker*> parts);

/// The runs inside `within` that may hold anything but zeros: pages never touched are left out, without
/// reading or touching any. All of it where the kernel does not tell. Works on armed memory too, and has to:
/// the source asks before it registers a chunk, and again after the chunk was armed, so that a page first
/// written in between is not lost.
Result<std::vector<PageRun>> touched_runs(const RamLayout& layout, const PageRun& within);

}  // namespace ramferry::migration
