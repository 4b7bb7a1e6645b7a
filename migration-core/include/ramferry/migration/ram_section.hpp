// SPDX-License-Identifier: MIT
// The section "ram": guest memory, live. One of these serves a VM as source and as destination.
//
// Migration thread, except where said. The layout, and the memory behind it, outlive the section.
#pragma once

#include <ramferry/log.hpp>
#include <ramferry/migration/dirty_tracker.hpp>
#include <ramferry/migration/page_coding.hpp>
#include <ramferry/migration/page_sink.hpp>
#include <ramferry/migration/ram_block.hpp>
#include <ramferry/migration/section.hpp>

#include <cstdint>
#include <functional>
#include <memory>

namespace ramferry::migration {

/// Makes the tracker when an outgoing migration begins; it is dropped when the migration is over.
using TrackerFactory = std::function<Result<std::unique_ptr<DirtyTracker>>()>;

struct RamOptions {
  TrackerFactory tracker;  ///< may be empty in a VM that is only ever a destination
  bool blank = false;      ///< no byte of the memory was written yet: a destination fresh from mmap
  std::uint64_t chunk_bytes = 64ULL << 20;  ///< registered, armed and read one after another in round one
  /// Asked when a migration begins, and again in each round for what may change while it runs: the size of
  /// the cache, the level. Empty: pages go as they are.
  std::function<PageCoding()> coding{};
};

class RamSection final : public SectionHandler {
 public:
  RamSection(const RamLayout& layout, RamOptions options, Log& log);
  ~RamSection() override;

  SectionId id() const override { return {"ram", 0, 4}; }
  bool live() const noexcept override { return true; }
  bool blank_memory() const override { return options_.blank; }
  Result<> attach(SlotLink* link) override;
  Result<> begin(SectionWriter& out) override;
  Result<Pending> iterate(SectionWriter& out, const Budget& budget) override;
  Result<Pending> pending(bool exact) override;
  Result<bool> await_arrival(Deadline deadline) override;
  Result<> finish(SectionWriter& out) override;
  Result<> load(SectionReader& in, std::uint32_t version, SectionPart part) override;
  void report(Progress& into) const override;
  void cleanup() noexcept override;

 private:
  class Saver;
  class Loader;

  const RamLayout& layout_;
  RamOptions options_;
  Log& log_;
  SlotLink* link_ = nullptr;
  std::unique_ptr<Saver> saver_;
  std::unique_ptr<Loader> loader_;
};

}  // namespace ramferry::migration
