// SPDX-License-Identifier: MIT
#include "record_sender.hpp"

#include "batch_queue.hpp"
#include "sender_engine.hpp"

#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace ramferry::checkpoint {

using migration::savevm::Mark;

namespace {

constexpr std::size_t kBatches = 4;
constexpr std::size_t kBatchBytes = 1U << 20;
constexpr std::uint64_t kPartBytes = 64ULL << 20;  ///< of guest memory
constexpr std::size_t kWordBytes = 8;
/// A record's own bytes at most: the word, the block's name with its length, one fill byte; and the marks
/// around.
constexpr std::size_t kMostOverhead = 512;

void store(Bytes to, std::uint64_t word) noexcept {
  for (std::size_t i = 0; i < kWordBytes; ++i)
    to[i] = static_cast<std::byte>(word >> (8 * (kWordBytes - 1 - i)));
}

/// Makes the records, batch after batch, on the reading thread.
class RecordMaker {
 public:
  RecordMaker(const CheckpointFile& file, BatchQueue& queue) : file_(file), queue_(queue) {}

  /// Success as well if the other end has given up: it knows why.
  Result<> run() {
    const auto visit = [&](const Stretch& stretch) -> Result<> {
      return stretch.run == nullptr ? zeros(stretch) : pages(stretch);
    };
    Result<> made = each_stretch(file_, visit);
    if (made) made = end();
    if (!made && !gave_up_) return made;
    return {};
  }

 private:
  Result<> zeros(const Stretch& stretch) {
    for (std::uint64_t page = stretch.first; page < stretch.first + stretch.count; ++page) {
      RAMFERRY_TRY(make_room());
      word(stretch.block, page, ram_wire::kZero);
      batch_->grow(1)[0] = std::byte{0};
    }
    return {};
  }

  /// The words first, with room behind each, into which the file is then read: no page is copied here.
  Result<> pages(const Stretch& stretch) {
    for (std::uint64_t index = 0; index < stretch.count; ++index) {
      RAMFERRY_TRY(make_room());
      word(stretch.block, stretch.first + index, ram_wire::kPage);
      reads_.push_back({stretch.run, index, batch_->grow(kPageBytes)});
    }
    return {};
  }

  /// The record's word, and the block's name where it is not the one before.
  void word(std::uint32_t block, std::uint64_t page, std::uint64_t flag) {
    if (!open_) {
      small_.clear();
      append_ram_mark(small_out_, file_.head(), Mark::part);
      append_small();
      open_ = true;
      in_part_ = 0;
      last_block_.reset();
    }
    const std::uint64_t word = page * kPageBytes | flag;
    if (last_block_ == block) {
      store(batch_->grow(kWordBytes), word | ram_wire::kContinue);
    } else {
      small_.clear();
      small_out_.u64(word).text8(file_.head().blocks[block].name);
      append_small();
      last_block_ = block;
    }
    in_part_ += kPageBytes;
    batch_->ram_bytes += kPageBytes;
  }

  void append_small() { std::memcpy(batch_->grow(small_.size()).data(), small_.data(), small_.size()); }

  void close_part() {
    small_.clear();
    append_part_end(small_out_, file_.head());
    append_small();
    open_ = false;
  }

  /// For one record at least, and the end of its part.
  Result<> make_room() {
    if (batch_ != nullptr && batch_->room() >= kMostOverhead + kPageBytes) return {};
    if (batch_ != nullptr) {
      if (in_part_ >= kPartBytes) close_part();
      RAMFERRY_TRY(hand_over());
    }
    batch_ = queue_.take_empty();
    gave_up_ = batch_ == nullptr;
    return gave_up_ ? fail(errc::cancelled, "making RAM records") : Result<>{};
  }

  Result<> hand_over() {
    RAMFERRY_TRY(file_.read(reads_));
    reads_.clear();
    queue_.put_full(std::exchange(batch_, nullptr));
    return {};
  }

  /// The end of the RAM section.
  Result<> end() {
    RAMFERRY_TRY(make_room());
    if (open_) close_part();
    small_.clear();
    append_ram_mark(small_out_, file_.head(), Mark::end);
    append_part_end(small_out_, file_.head());
    append_small();
    return hand_over();
  }

  const CheckpointFile& file_;
  BatchQueue& queue_;
  Batch* batch_ = nullptr;
  std::vector<PageRead> reads_;   ///< into it, to be done before it is handed over
  std::vector<std::byte> small_;  ///< everything but the pages and their words
  WireWriter small_out_{small_};
  bool open_ = false, gave_up_ = false;
  std::optional<std::uint32_t> last_block_;
  std::uint64_t in_part_ = 0;
};

Result<> send_batches(BatchQueue& queue, ByteStream& stream, std::atomic<std::uint64_t>& done) {
  while (Batch* const batch = queue.take_full()) {
    RAMFERRY_TRY(stream.send(batch->bytes()));
    done += batch->ram_bytes;
    queue.put_empty(batch);
  }
  return {};
}

}  // namespace

Result<> send_ram_records(const CheckpointFile& file, ByteStream& stream, std::atomic<std::uint64_t>& done) {
  BatchQueue queue(kBatches, kBatchBytes);
  Result<> made;
  std::thread reader([&] {
    made = RecordMaker(file, queue).run();
    // What is whole is not worth sending when the rest is damaged.
    if (made)
      queue.finish();
    else
      queue.give_up();
  });
  Result<> sent = send_batches(queue, stream, done);
  if (!sent) queue.give_up();
  reader.join();
  return made ? sent : made;
}

}  // namespace ramferry::checkpoint
