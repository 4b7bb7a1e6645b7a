// SPDX-License-Identifier: MIT
#include "lane_reader.hpp"

#include "socket.hpp"

#include <algorithm>
#include <string>

namespace ramferry::tcp {
namespace {

constexpr std::size_t kStagingBytes = std::size_t{1} << 20;  ///< raw bytes are stored in pieces of this size
constexpr std::uint64_t kZeroSlice = std::uint64_t{64}
                                     << 20;  ///< so that revoke() need not wait for a long run

class LandingScope {
 public:
  explicit LandingScope(LaneEvents& events) noexcept : events_(events) {}
  LandingScope(const LandingScope&) = delete;
  LandingScope& operator=(const LandingScope&) = delete;
  ~LandingScope() { events_.end_landing(); }

 private:
  LaneEvents& events_;
};

}  // namespace

Result<LaneReader::End> LaneReader::run() {
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const bool another, next_header());
    if (!another) return End::closed;
    RAMFERRY_TRY_ASSIGN(const FrameHeader header, decode_header(header_));
    if (header.type == FrameType::goodbye) return End::goodbye;
    RAMFERRY_TRY(take(header));
  }
}

Result<bool> LaneReader::next_header() {
  if (next_bytes_ < kHeaderBytes) {
    const Bytes missing = Bytes(next_).subspan(next_bytes_);
    if (next_bytes_ == 0) {
      iovec piece = to_iovec(missing);
      RAMFERRY_TRY_ASSIGN(next_bytes_, source_.read({&piece, 1}));
      if (next_bytes_ == 0) return false;
    }
    if (next_bytes_ < kHeaderBytes) {
      pieces_.assign(1, to_iovec(Bytes(next_).subspan(next_bytes_)));
      RAMFERRY_TRY(fill(false));
    }
  }
  header_ = next_;
  next_bytes_ = 0;
  return true;
}

Result<> LaneReader::take(const FrameHeader& header) {
  switch (header.type) {
    case FrameType::bytes: return take_bytes(header.payload);
    case FrameType::place: return take_placements(header);
    case FrameType::zero: return take_zero_runs(header);
    case FrameType::fence: return events_.fence_arrived(header.epoch);
    case FrameType::status: return events_.status_arrived(header.epoch, header.consumed);
    case FrameType::finish: return events_.finish_arrived();
    case FrameType::error: return peer_error(header);
    case FrameType::goodbye: break;
  }
  return {};
}

Result<> LaneReader::take_bytes(std::size_t payload) {
  RAMFERRY_TRY_ASSIGN(const auto room, events_.room_for(payload));
  pieces_.clear();
  for (const Bytes piece : room)
    if (!piece.empty()) pieces_.push_back(to_iovec(piece));
  RAMFERRY_TRY(fill(true));
  events_.bytes_arrived(payload);
  return {};
}

Result<> LaneReader::take_placements(const FrameHeader& header) {
  RAMFERRY_TRY(read_table(header));
  RAMFERRY_TRY(decode_extents(header_, table_, extents_));
  RAMFERRY_TRY(events_.begin_landing());
  const LandingScope scope(events_);
  pieces_.clear();
  std::uint64_t placed = 0;
  for (const Extent& extent : extents_) {
    RAMFERRY_TRY(land(extent));
    placed += extent.length;
  }
  RAMFERRY_TRY(fill(true));
  Counters::add(counters_.placed_bytes_received, placed);
  return {};
}

Result<> LaneReader::land(const Extent& extent) {
  RAMFERRY_TRY_ASSIGN(Landing * landing, slots_.find(extent.slot, extent.offset, extent.length));
  if (extent.encoding == kRawEncoding) {
    const Bytes window = landing->window(extent.offset, extent.length);
    if (window.size() == extent.length) {
      landing->note_written(extent.offset, extent.length);
      pieces_.push_back(to_iovec(window));
      return {};
    }
  }
  RAMFERRY_TRY(fill(false));
  return store(*landing, extent);
}

Result<> LaneReader::store(Landing& landing, const Extent& extent) {
  // Encoded bytes make sense as a whole only; a frame's cap bounds them.
  const std::size_t step = extent.encoding == kRawEncoding ? kStagingBytes : extent.bytes;
  for (std::size_t done = 0; done < extent.bytes;) {
    const std::size_t piece = std::min(step, extent.bytes - done);
    if (staging_.size() < piece) staging_.resize(piece);
    pieces_.assign(1, to_iovec(Bytes(staging_).first(piece)));
    RAMFERRY_TRY(fill(false));
    Counters::add(counters_.copied_bytes, piece);
    const std::uint64_t length = extent.encoding == kRawEncoding ? piece : extent.length;
    RAMFERRY_TRY(
        landing.store(extent.offset + done, length, extent.encoding, ConstBytes(staging_).first(piece)));
    done += piece;
  }
  return {};
}

Result<> LaneReader::take_zero_runs(const FrameHeader& header) {
  RAMFERRY_TRY(read_table(header));
  RAMFERRY_TRY(decode_zero_runs(header_, table_, runs_));
  for (const ZeroRun& run : runs_) RAMFERRY_TRY(zero(run));
  return {};
}

Result<> LaneReader::zero(const ZeroRun& run) {
  for (std::uint64_t done = 0; done < run.length;) {
    const std::uint64_t piece = std::min(kZeroSlice, run.length - done);
    RAMFERRY_TRY(events_.begin_landing());
    const LandingScope scope(events_);
    RAMFERRY_TRY_ASSIGN(Landing * landing, slots_.find(run.slot, run.offset, run.length));
    RAMFERRY_TRY(landing->zero(run.offset + done, piece));
    done += piece;
  }
  Counters::add(counters_.zero_bytes_received, run.length);
  return {};
}

Failure LaneReader::peer_error(const FrameHeader& header) {
  std::vector<std::byte> text(header.payload);
  pieces_.assign(1, to_iovec(Bytes(text)));
  if (const Result<> read = fill(false); !read) return Failure(read.error());
  const std::string_view reason(reinterpret_cast<const char*>(text.data()), text.size());
  return fail(errc::peer_failed, "the other end reports: " + printable(reason));
}

Result<> LaneReader::read_table(const FrameHeader& header) {
  table_.resize(header.table_bytes());
  pieces_.assign(1, to_iovec(Bytes(table_)));
  return fill(false);
}

Result<> LaneReader::fill(bool end_of_frame) {
  std::size_t left = total_bytes(pieces_);
  if (end_of_frame) pieces_.push_back(to_iovec(Bytes(next_)));
  std::span<iovec> rest = pieces_;
  while (left > 0) {
    RAMFERRY_TRY_ASSIGN(const std::size_t got, source_.read(rest));
    if (got == 0) return fail(errc::peer_gone, "receiving: the connection ended in the middle of a frame");
    if (end_of_frame && got > left) next_bytes_ = got - left;
    left -= std::min(left, got);
    rest = advance(rest, got);
  }
  pieces_.clear();
  return {};
}

}  // namespace ramferry::tcp
