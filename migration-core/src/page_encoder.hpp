// SPDX-License-Identifier: MIT
// Pages that are not zero, on their way to a sink: as they are, as changes to what was sent before, or
// compressed.
//
// Migration thread. What is cached, changed or compressed is a private copy; see "Encoders work on a private
// copy" in docs/design-notes.md. A page is sent as a change only when what it changes has arrived: the saver
// leaves out pages in flight.
#pragma once

#include "compression_judge.hpp"
#include "page_codec.hpp"
#include "worker_pool.hpp"

#include <ramferry/migration/page_sink.hpp>
#include <ramferry/migration/section.hpp>
#include <ramferry/migration/xbzrle.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace ramferry::migration {

class PageEncoder {
 public:
  /// `coding` may be empty. Borrows layout and sink.
  PageEncoder(const RamLayout& layout, PageSink& sink, std::function<PageCoding()> coding);
  ~PageEncoder();

  /// Whether the sink can carry what is asked for; errc::unsupported with the reason.
  Result<> check() const;
  /// All dirty pages known so far belong to an earlier round from here on.
  void next_round();
  /// `bytes_per_second` is the limit that the link is held to; 0 = none. `last`: the guest is paused and no
  /// round follows.
  Result<> send(std::span<const PageRun> runs, std::uint64_t bytes_per_second, bool last);
  /// These pages were sent as zeros.
  void forget(std::span<const PageRun> runs);
  void report(Progress& into) const;

 private:
  Result<> send_timed(std::span<const PageRun> runs, bool compressed, std::uint64_t bytes_per_second);
  static void split(std::span<const PageRun> runs, std::uint64_t pages, std::vector<PageRun>& first,
                    std::vector<PageRun>& rest);
  Result<> send_as_they_are(std::span<const PageRun> runs);
  Result<> send_and_keep(std::span<const PageRun> runs);
  void keep(const PageRun& run, ConstBytes bytes);
  Result<> send_changes(std::span<const PageRun> runs, bool last);
  void encode_change(const PageRun& page, bool last);
  Result<> flush_changes();
  Result<> send_compressed(std::span<const PageRun> runs);
  Result<> flush_pieces();
  std::uint64_t number_of(const PageRun& page) const noexcept {
    return first_number_[page.block] + page.first;
  }
  void append(const PageRun& run, Encoding encoding, ConstBytes bytes);

  /// A stretch of adjacent pages that is compressed by itself.
  struct Piece {
    PageRun run;
    std::size_t bytes = 0, compressed = 0;  ///< compressed: 0 = stored
  };
  Bytes raw_of(std::size_t piece) noexcept;
  Bytes compressed_of(std::size_t piece) noexcept;

  const RamLayout& layout_;
  PageSink& sink_;
  const std::function<PageCoding()> ask_;
  PageCoding coding_;
  std::uint64_t page_bytes_ = 4096, round_ = 1;
  std::vector<std::uint64_t> first_number_;  ///< of each block, when all pages are numbered through
  PageCounts pages_;

  std::unique_ptr<XbzrleCache> cache_;
  XbzrleCounts xbzrle_;
  std::vector<std::byte> arena_, page_;
  std::vector<EncodedPages> encoded_;
  std::vector<PageRun> as_they_are_;

  std::unique_ptr<WorkerPool> workers_;
  CompressionCounts compression_;
  CompressionJudge judge_;
  std::size_t piece_bytes_ = page_codec::kPieceBytes;
  std::vector<Piece> pieces_;
  std::vector<std::byte> piece_memory_;
};

}  // namespace ramferry::migration
