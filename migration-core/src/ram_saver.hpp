// SPDX-License-Identifier: MIT
// The source's half of the RAM section: which pages go when.
//
// Round one goes chunk by chunk: what was touched is prepared (registered), the chunk is armed, what was
// touched is read and sent; see "Register, arm, read" in docs/design-notes.md. Later rounds send what the
// tracker reports. Pages in flight are deferred, so that rounds need no drain.
#pragma once

#include "page_encoder.hpp"

#include <ramferry/migration/dirty_set.hpp>
#include <ramferry/migration/dirty_tracker.hpp>
#include <ramferry/migration/page_planner.hpp>
#include <ramferry/migration/page_sink.hpp>
#include <ramferry/migration/ram_section.hpp>

#include <memory>
#include <optional>
#include <vector>

namespace ramferry::migration {

class RamSection::Saver {
 public:
  Saver(const RamLayout& layout, std::unique_ptr<PageSink> sink, std::unique_ptr<DirtyTracker> tracker,
        const RamOptions& options);
  ~Saver();
  Result<> begin(SectionWriter& out);
  Result<Pending> iterate(SectionWriter& out, const Budget& budget);
  Result<Pending> pending(bool exact);
  /// Waits until nothing is in flight; false at the deadline.
  Result<bool> await_arrival(Deadline deadline);
  Result<> finish(SectionWriter& out);
  void report(Progress& into) const;

 private:
  /// A stretch of one block that is prepared, armed and read in round one.
  struct Chunk {
    PageRun run;
    std::vector<PageRun> touched;  ///< lent
  };

  Result<> plan_chunks();
  void add_chunk(const PageRun& run, std::vector<PageRun> touched);
  Result<> open_chunk();
  /// Sends up to `most_bytes` of guest memory; returns what that cost on the wire, or nothing if there is
  /// nothing to send that is not in flight.
  Result<std::optional<std::uint64_t>> send_batch(std::uint64_t most_bytes);
  Result<> send_pages(std::span<const PageRun> runs);
  Result<> send_zeros(std::span<const PageRun> runs);
  std::uint64_t page_bytes() const noexcept;
  bool all_opened() const noexcept { return next_chunk_ == chunks_.size(); }
  Pending estimate();

  const RamLayout& layout_;
  std::unique_ptr<PageSink> sink_;
  PageEncoder encoder_;
  std::unique_ptr<DirtyTracker> tracker_;
  const std::uint64_t chunk_bytes_;
  std::vector<Chunk> chunks_;
  std::size_t next_chunk_ = 0;
  std::uint64_t unopened_pages_ = 0;  ///< touched pages of the chunks that were not opened yet
  DirtySet dirty_;
  PagePlanner planner_;
  Progress progress_;
  std::uint64_t bytes_per_second_ = 0;  ///< of the newest budget
  bool paused_ = false;
};

}  // namespace ramferry::migration
