// SPDX-License-Identifier: MIT
#include "page_encoder.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

namespace ramferry::migration {
namespace {

constexpr std::size_t kArenaBytes = 1 << 20;
constexpr std::size_t kMostPieces = 64;  // at once: what the workers share out

std::uint64_t pages_in(std::span<const PageRun> runs) noexcept {
  return std::accumulate(runs.begin(), runs.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const PageRun& run) { return sum + run.count; });
}

}  // namespace

PageEncoder::PageEncoder(const RamLayout& layout, PageSink& sink, std::function<PageCoding()> coding)
    : layout_(layout), sink_(sink), ask_(std::move(coding)), coding_(ask_ ? ask_() : PageCoding{}) {
  std::uint64_t number = 0;
  for (const RamBlock& block : layout.blocks()) {
    first_number_.push_back(number);
    number += block.pages();
    page_bytes_ = block.page_bytes;
  }
  piece_bytes_ = sink.encodes_page_by_page() ? page_bytes_ : page_codec::kPieceBytes;
  if (coding_.xbzrle) {
    cache_ = std::make_unique<XbzrleCache>(coding_.cache_bytes, page_bytes_);
    arena_.reserve(kArenaBytes + std::max<std::size_t>(page_bytes_, piece_bytes_));
    page_.resize(page_bytes_);
  }
  if (coding_.compress) {
    workers_ = std::make_unique<WorkerPool>(coding_.threads);
    piece_memory_.resize(2 * kMostPieces * piece_bytes_);
  }
}

PageEncoder::~PageEncoder() = default;

Result<> PageEncoder::check() const {
  if (!coding_.xbzrle && !coding_.compress) return {};
  const char* what = coding_.xbzrle ? "the capability 'xbzrle'" : "the capability 'compress'";
  for (const RamBlock& block : layout_.blocks())
    if (block.page_bytes != page_bytes_)
      return fail(errc::unsupported, std::string("using ") + what + " with pages of several sizes");
  if (const char* why = sink_.why_not_encoded())
    return fail(errc::unsupported, std::string("using ") + what + ": " + why,
                "switch the capability off, or use another transport");
  if (coding_.compress && coding_.method == CompressMethod::zstd && sink_.encodes_page_by_page())
    return fail(errc::unsupported, "compressing by zstd: QEMU's streams know zlib only",
                "set compress-method to zlib");
  return {};
}

void PageEncoder::next_round() {
  ++round_;
  if (!ask_) return;
  const PageCoding now = ask_();
  coding_.level = now.level;
  if (cache_) cache_->resize(now.cache_bytes);
}

Result<> PageEncoder::send(std::span<const PageRun> runs, std::uint64_t bytes_per_second, bool last) {
  if (cache_ && round_ > 1) return send_changes(runs, last);
  if (!workers_) return cache_ ? send_and_keep(runs) : send_as_they_are(runs);
  std::vector<PageRun> trial, rest;
  split(runs, judge_.try_other() ? CompressionJudge::kTrialBytes / page_bytes_ : 0, trial, rest);
  if (!trial.empty()) RAMFERRY_TRY(send_timed(trial, !judge_.compress(), bytes_per_second));
  return rest.empty() ? Result<>() : send_timed(rest, judge_.compress(), bytes_per_second);
}

/// The first `pages` of `runs`, and what is left.
void PageEncoder::split(std::span<const PageRun> runs, std::uint64_t pages, std::vector<PageRun>& first,
                        std::vector<PageRun>& rest) {
  for (const PageRun& run : runs) {
    const std::uint64_t part = std::min(run.count, pages);
    pages -= part;
    if (part != 0) first.push_back({run.block, run.first, part});
    if (part != run.count) rest.push_back({run.block, run.first + part, run.count - part});
  }
}

Result<> PageEncoder::send_timed(std::span<const PageRun> runs, bool compressed,
                                 std::uint64_t bytes_per_second) {
  const std::uint64_t guest_bytes = pages_in(runs) * page_bytes_;
  const std::uint64_t bytes_before = compression_.bytes;
  const auto begun = Clock::Time::clock::now();
  RAMFERRY_TRY(compressed ? send_compressed(runs) : send_as_they_are(runs));
  if (!compressed) compression_.declined_pages += pages_in(runs);
  Nanoseconds took = Clock::Time::clock::now() - begun;
  if (bytes_per_second != 0) {
    const std::uint64_t wire = compressed ? compression_.bytes - bytes_before : guest_bytes;
    const std::chrono::duration<double> at_least(static_cast<double>(wire) /
                                                 static_cast<double>(bytes_per_second));
    took = std::max(took, std::chrono::duration_cast<Nanoseconds>(at_least));
  }
  judge_.note(compressed, guest_bytes, took);
  return {};
}

Result<> PageEncoder::send_as_they_are(std::span<const PageRun> runs) {
  RAMFERRY_TRY(sink_.pages(runs));
  pages_.normal += pages_in(runs);
  return {};
}

void PageEncoder::forget(std::span<const PageRun> runs) {
  if (!cache_) return;
  for (const PageRun& run : runs)
    for (std::uint64_t page = 0; page < run.count; ++page) cache_->erase(number_of(run) + page);
}

void PageEncoder::report(Progress& into) const {
  into.pages.normal += pages_.normal;
  if (cache_) {
    into.xbzrle = xbzrle_;
    into.xbzrle->cache_bytes = cache_->bytes();
  }
  if (workers_) into.compression = compression_;
}

// --- changes ---

/// The first round: what the cache has room for is what later rounds send the changes of.
Result<> PageEncoder::send_and_keep(std::span<const PageRun> runs) {
  for (const PageRun& run : runs) {
    for (std::uint64_t page = 0; page < run.count;) {
      PageRun part = {run.block, run.first + page, 1};
      const bool room = cache_->has_room(number_of(part));
      while (page + part.count < run.count && (!room || (part.count + 1) * page_bytes_ <= piece_bytes_) &&
             cache_->has_room(number_of(part) + part.count) == room)
        ++part.count;
      page += part.count;
      if (!room) {
        as_they_are_.push_back(part);
        continue;
      }
      const std::size_t at = arena_.size();
      arena_.resize(at + part.count * page_bytes_);
      const Bytes copy = Bytes(arena_).subspan(at);
      page_codec::copy_live(layout_.memory(part), copy);
      keep(part, copy);
      pages_.normal += part.count;
      encoded_.push_back({part, page_codec::kCopy, copy});
      if (arena_.size() >= kArenaBytes) RAMFERRY_TRY(flush_changes());
    }
  }
  RAMFERRY_TRY(flush_changes());
  RAMFERRY_TRY(send_as_they_are(as_they_are_));
  as_they_are_.clear();
  return {};
}

/// As pages that nobody is known to use: one that is sent again takes the place of another.
void PageEncoder::keep(const PageRun& run, ConstBytes bytes) {
  for (std::uint64_t page = 0; page < run.count; ++page)
    cache_->insert(number_of(run) + page, bytes.subspan(page * page_bytes_, page_bytes_), round_ - 1);
}

Result<> PageEncoder::send_changes(std::span<const PageRun> runs, bool last) {
  for (const PageRun& run : runs) {
    for (std::uint64_t page = 0; page < run.count; ++page) {
      encode_change({run.block, run.first + page, 1}, last);
      if (arena_.size() >= kArenaBytes) RAMFERRY_TRY(flush_changes());
    }
  }
  RAMFERRY_TRY(flush_changes());
  RAMFERRY_TRY(send_as_they_are(as_they_are_));
  as_they_are_.clear();
  return {};
}

void PageEncoder::append(const PageRun& run, Encoding encoding, ConstBytes bytes) {
  // There is room: the arena never moves, so that what points into it stays.
  const std::size_t at = arena_.size();
  arena_.insert(arena_.end(), bytes.begin(), bytes.end());
  encoded_.push_back({run, encoding, ConstBytes(arena_).subspan(at, bytes.size())});
}

void PageEncoder::encode_change(const PageRun& page, bool last) {
  const std::uint64_t number = number_of(page);
  const Bytes cached = cache_->find(number, round_);
  if (cached.empty() && last) {  // nobody writes it any more, and nothing follows
    ++xbzrle_.cache_misses;
    as_they_are_.push_back(page);
    return;
  }
  page_codec::copy_live(layout_.memory(page), page_);
  if (cached.empty()) {
    ++xbzrle_.cache_misses;
    ++pages_.normal;
    cache_->insert(number, page_, round_);
    append(page, page_codec::kCopy, page_);
    return;
  }
  std::array<std::byte, page_codec::kPieceBytes> delta;
  const auto length = xbzrle_encode(cached, page_, Bytes(delta).first(page_bytes_));
  if (length && *length == 0) return;  // written, and as it was before
  std::memcpy(cached.data(), page_.data(), page_.size());
  if (length) {
    ++xbzrle_.pages;
    xbzrle_.bytes += *length;
    append(page, page_codec::kXbzrle, Bytes(delta).first(*length));
  } else {
    ++xbzrle_.overflows;
    ++pages_.normal;
    append(page, page_codec::kCopy, page_);
  }
}

Result<> PageEncoder::flush_changes() {
  if (!encoded_.empty()) RAMFERRY_TRY(sink_.encoded(encoded_));
  encoded_.clear();
  arena_.clear();
  return {};
}

// --- compression ---

Bytes PageEncoder::raw_of(std::size_t piece) noexcept {
  return Bytes(piece_memory_).subspan(2 * piece * piece_bytes_, pieces_[piece].bytes);
}

Bytes PageEncoder::compressed_of(std::size_t piece) noexcept {
  return Bytes(piece_memory_).subspan((2 * piece + 1) * piece_bytes_, pieces_[piece].bytes);
}

Result<> PageEncoder::send_compressed(std::span<const PageRun> runs) {
  const std::uint64_t most = piece_bytes_ / page_bytes_;
  for (const PageRun& run : runs) {
    for (std::uint64_t page = 0; page < run.count; page += most) {
      const std::uint64_t count = std::min(most, run.count - page);
      pieces_.push_back({{run.block, run.first + page, count}, count * page_bytes_});
      if (pieces_.size() == kMostPieces) RAMFERRY_TRY(flush_pieces());
    }
  }
  return flush_pieces();
}

Result<> PageEncoder::flush_pieces() {
  workers_->run(pieces_.size(), [this](std::size_t i) {
    page_codec::copy_live(layout_.memory(pieces_[i].run), raw_of(i));
    pieces_[i].compressed = page_codec::compress(coding_, raw_of(i), compressed_of(i));
  });
  encoded_.clear();
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    const bool stored = piece.compressed == 0;
    const Encoding encoding = stored ? page_codec::kCopy : page_codec::encoding_of(coding_.method);
    const ConstBytes bytes = stored ? raw_of(i) : compressed_of(i).first(piece.compressed);
    if (cache_) keep(piece.run, raw_of(i));
    encoded_.push_back({piece.run, encoding, bytes});
    compression_.pages += piece.run.count;
    compression_.bytes += bytes.size();
  }
  pieces_.clear();
  Result<> sent = sink_.encoded(encoded_);
  encoded_.clear();
  return sent;
}

}  // namespace ramferry::migration
