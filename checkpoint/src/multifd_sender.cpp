// SPDX-License-Identifier: MIT
#include "multifd_sender.hpp"

#include "multifd_packet.hpp"
#include "sender_engine.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace ramferry::checkpoint {

using migration::savevm::Mark;

namespace {

constexpr std::size_t kBufferBytes = 1U << 20;

/// Deals the stored pages out to the channels, up to a packet at a time. Thread-safe.
class PageDealer {
 public:
  struct Share {
    const StoredRun* run = nullptr;
    std::uint64_t skip = 0, count = 0;
  };
  explicit PageDealer(const CheckpointFile& file) : runs_(file.runs()) {}

  /// Pages of one block, at most kPacketPages in all; none when all are dealt out.
  std::vector<Share> next() {
    const std::lock_guard lock(mutex_);
    std::vector<Share> shares;
    std::uint64_t room = kPacketPages;
    while (room > 0 && run_ < runs_.size()) {
      const StoredRun& run = runs_[run_];
      if (!shares.empty() && shares.front().run->block != run.block) break;
      const std::uint64_t count = std::min(room, run.count - skip_);
      shares.push_back({&run, skip_, count});
      room -= count;
      skip_ += count;
      if (skip_ == run.count) {
        ++run_;
        skip_ = 0;
      }
    }
    return shares;
  }

 private:
  std::mutex mutex_;
  const std::span<const StoredRun> runs_;
  std::size_t run_ = 0;
  std::uint64_t skip_ = 0;
};

class MultifdSender {
 public:
  MultifdSender(const CheckpointFile& file, StreamBundle& streams, std::atomic<std::uint64_t>& done)
      : file_(file), streams_(streams), done_(done), dealer_(file) {}

  Result<> run(SyncPlace place) {
    std::vector<std::thread> threads;
    for (std::size_t number = 0; number < streams_.channels(); ++number)
      threads.emplace_back([this, number] { note(send_pages(streams_.channel(number))); });
    note(send_main(place));
    for (std::thread& each : threads) each.join();
    return error_ ? Failure(*error_) : Result<>{};
  }

 private:
  /// The first failure is the one that matters; it ends everybody's work.
  void note(const Result<>& result) {
    if (result) return;
    {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = result.error();
    }
    streams_.cancel();
  }

  Result<> send_pages(ByteStream& channel) {
    std::vector<std::byte> head;
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(kPacketPages * kPageBytes);
    RAMFERRY_TRY(send_sync(channel));  // that of the START
    for (auto shares = dealer_.next(); !shares.empty(); shares = dealer_.next()) {
      MultifdPacket packet;
      packet.block = shares.front().run->block;
      RAMFERRY_TRY(read(shares, packet, memory.get()));
      packet.payload = packet.pages * static_cast<std::uint32_t>(kPageBytes);
      head.clear();
      encode_packet(packet, file_.head().blocks[packet.block].name, ++packets_, head);
      RAMFERRY_TRY(channel.send(head));
      RAMFERRY_TRY(channel.send({memory.get(), packet.payload}));
      done_ += packet.payload;
    }
    return send_sync(channel);  // that of the END
  }

  /// Fills the packet and its content.
  Result<> read(std::span<const PageDealer::Share> shares, MultifdPacket& packet, std::byte* memory) {
    std::vector<PageRead> pages;
    for (const auto& share : shares) {
      for (std::uint64_t index = share.skip; index < share.skip + share.count; ++index) {
        pages.push_back({share.run, index, {memory + packet.pages * kPageBytes, kPageBytes}});
        packet.offsets[packet.pages++] = (share.run->first + index) * kPageBytes;
      }
    }
    return file_.read(pages);
  }

  Result<> send_sync(ByteStream& channel) {
    std::vector<std::byte> head;
    encode_packet({.sync = true}, {}, ++packets_, head);
    return channel.send(head);
  }

  /// START and END; with two places to sync each channel has two to say it at.
  Result<> send_main(SyncPlace place) {
    const CheckpointHead& head = file_.head();
    std::vector<std::byte> bytes;
    WireWriter out(bytes);
    const std::uint64_t flush = place == SyncPlace::marked ? ram_wire::kMultifdFlush : 0;
    append_ram_start(out, head, flush);
    append_ram_mark(out, head, Mark::end);
    RAMFERRY_TRY(each_stretch(file_, [&](const Stretch& stretch) { return zeros(stretch, bytes); }));
    if (flush != 0) out.u64(flush);
    append_part_end(out, head);
    return streams_.send(bytes);
  }

  Result<> zeros(const Stretch& stretch, std::vector<std::byte>& bytes) {
    if (stretch.run != nullptr) return {};
    WireWriter out(bytes);
    for (std::uint64_t page = stretch.first; page < stretch.first + stretch.count; ++page) {
      const std::uint64_t word = page * kPageBytes | ram_wire::kZero;
      if (last_block_ == stretch.block)
        out.u64(word | ram_wire::kContinue).u8(0);
      else
        out.u64(word).text8(file_.head().blocks[stretch.block].name).u8(0);
      last_block_ = stretch.block;
      done_ += kPageBytes;
      if (bytes.size() < kBufferBytes) continue;
      RAMFERRY_TRY(streams_.send(bytes));
      bytes.clear();
    }
    return {};
  }

  const CheckpointFile& file_;
  StreamBundle& streams_;
  std::atomic<std::uint64_t>& done_;
  PageDealer dealer_;
  std::atomic<std::uint64_t> packets_ = 0;
  std::optional<std::uint32_t> last_block_;  ///< in the main stream
  std::mutex mutex_;
  std::optional<Error> error_;
};

}  // namespace

Result<SyncPlace> sync_place(const std::string& machine) {
  const std::size_t dash = machine.rfind('-');
  const std::string_view version =
      dash == std::string::npos ? std::string_view{} : std::string_view(machine).substr(dash + 1);
  const char* const end = version.data() + version.size();
  unsigned major = 0, minor = 0;
  const auto first = std::from_chars(version.data(), end, major);
  const bool dotted = first.ec == std::errc{} && first.ptr != end && *first.ptr == '.';
  const auto second = dotted ? std::from_chars(first.ptr + 1, end, minor) : first;
  if (!dotted || second.ec != std::errc{} || second.ptr != end)
    return fail(errc::unsupported,
                "multifd into a machine of type '" + machine + "', whose version its name does not tell",
                "leave channels=N away");
  return major < 8 || (major == 8 && minor == 0) ? SyncPlace::each_part : SyncPlace::marked;
}

Result<> send_over_channels(const CheckpointFile& file, StreamBundle& streams, SyncPlace place,
                            std::atomic<std::uint64_t>& done) {
  return MultifdSender(file, streams, done).run(place);
}

}  // namespace ramferry::checkpoint
