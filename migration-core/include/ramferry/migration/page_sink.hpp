// SPDX-License-Identifier: MIT
// Where the RAM section sends its pages, and where it gets them from: the one place that differs by dialect.
#pragma once

#include <ramferry/channel.hpp>
#include <ramferry/migration/dirty_set.hpp>
#include <ramferry/migration/ram_block.hpp>
#include <ramferry/migration/section.hpp>

#include <cstdint>
#include <memory>
#include <span>

namespace ramferry::migration {

/// Adjacent pages under an encoding of page_codec.hpp; compressed bytes as long as the pages are stored.
struct EncodedPages {
  PageRun run;
  Encoding encoding = kRawEncoding;
  ConstBytes bytes;
};

/// What the RAM section writes to. begin() and end() bracket one section part; they may write into the open
/// section and may block. Migration thread.
class PageSink {
 public:
  virtual ~PageSink() = default;
  virtual Result<> begin(SectionWriter& section, SectionPart part) = 0;
  virtual Result<> pages(std::span<const PageRun> runs) = 0;
  virtual Result<> zeros(std::span<const PageRun> runs) = 0;
  virtual Result<> end(SectionWriter& section, SectionPart part) = 0;

  /// Borrows the bytes for the call.
  virtual Result<> encoded(std::span<const EncodedPages> pages) = 0;
  /// Why encoding pages would be in vain here; null if it is not.
  virtual const char* why_not_encoded() const noexcept { return nullptr; }
  /// Whether each page is encoded by itself, rather than a stretch of them.
  virtual bool encodes_page_by_page() const noexcept = 0;

  /// The part of `layout` that will be sent from, in order; and the last chance to do what looks like a write
  /// to it before a tracker is armed. See Channel::lend and Channel::prepare.
  virtual Result<> lend(std::span<const PageRun> /*runs*/) { return {}; }
  virtual Result<> prepare(const PageRun& /*run*/) { return {}; }
  /// Bytes; see Channel::prepares_at_most.
  virtual std::uint64_t prepares_at_most() const noexcept { return ~0ULL; }

  /// Pages sent and not known to have arrived: they must not be sent again yet. Updated by each call.
  virtual const DirtySet& outstanding() = 0;
  /// Waits until nothing is outstanding.
  virtual Result<> drain(Deadline deadline) = 0;
  /// Whether pages never touched must be sent as zeros: the destination's memory may not be blank.
  virtual bool wants_untouched() const noexcept = 0;
};

/// Placements through the link's channel; slot number = block number, a part's payload is the epoch of its
/// fence.
std::unique_ptr<PageSink> make_native_sink(const RamLayout& layout, SlotLink& link);
/// QEMU's RAM v4 records in the byte stream.
std::unique_ptr<PageSink> make_inline_sink(const RamLayout& layout);

/// The destination's mirror: told of each part of the RAM section after its block list was checked.
class PageSource {
 public:
  virtual ~PageSource() = default;
  /// Reads one part's pages up to and including its end-of-section word.
  virtual Result<> load(SectionReader& section, SectionPart part) = 0;
};

/// One landing per block, in the layout's order; the sources borrow them.
class GuestLanding;
class Decompressors;
using Landings = std::span<const std::unique_ptr<GuestLanding>>;
/// Exposes the landings at the start part; pages arrive by themselves, the parts bring the epochs.
std::unique_ptr<PageSource> make_native_source(Landings landings, SlotLink& link);
std::unique_ptr<PageSource> make_inline_source(const RamLayout& layout, Landings landings,
                                               Decompressors& decompressors);

}  // namespace ramferry::migration
