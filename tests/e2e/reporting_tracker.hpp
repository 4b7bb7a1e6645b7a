// SPDX-License-Identifier: MIT
// A dirty tracker that is told of each write, and can be made to forget one.
#pragma once

#include <ramferry/migration/dirty_tracker.hpp>

#include <memory>
#include <mutex>

namespace ramferry::test {

/// What the writers report to, and any number of trackers harvest. Any thread.
class WriteLog {
 public:
  explicit WriteLog(const migration::RamLayout& layout) : dirty_(layout) {}
  void mark(std::uint32_t block, std::uint64_t offset, std::uint64_t length) {
    const std::lock_guard lock(mutex_);
    dirty_.mark({block, offset / 4096, (offset % 4096 + length + 4095) / 4096});
  }
  void take(migration::DirtySet& into) {
    const std::lock_guard lock(mutex_);
    into.merge(dirty_);
    dirty_.clear_all();
  }

 private:
  std::mutex mutex_;
  migration::DirtySet dirty_;
};

class ReportingTracker final : public migration::DirtyTracker {
 public:
  /// `forget_at`: this harvest (from 1) loses its lowest page; 0 = none does.
  ReportingTracker(const migration::RamLayout& layout, WriteLog& log, int forget_at = 0)
      : layout_(layout), log_(log), forget_at_(forget_at) {}
  std::string_view name() const noexcept override { return "reporting"; }
  Result<> arm(const migration::PageRun& /*run*/) override { return {}; }
  Result<> harvest(migration::DirtySet& into) override {
    migration::DirtySet found(layout_);
    log_.take(found);
    if (++harvests_ == forget_at_) found.take(0, 0, 1);
    into.merge(found);
    return {};
  }
  void stop() noexcept override {}

 private:
  const migration::RamLayout& layout_;
  WriteLog& log_;
  const int forget_at_;
  int harvests_ = 0;
};

}  // namespace ramferry::test
