// SPDX-License-Identifier: MIT
#include "multifd_receiver.hpp"

#include <zstd.h>

#include <array>
#include <cerrno>
#include <memory>

namespace ramferry::checkpoint {
namespace {

/// A channel's pages, decompressed: all packets of a channel are one zstd stream.
class Unpacker {
 public:
  Result<> unpack(ConstBytes from, Bytes into) {
    if (!stream_) stream_.reset(ZSTD_createDStream());
    if (!stream_) return fail_errno(ENOMEM, "decompressing multifd pages");
    ZSTD_inBuffer in = {from.data(), from.size(), 0};
    ZSTD_outBuffer out = {into.data(), into.size(), 0};
    while (in.pos < in.size || out.pos < out.size) {
      const std::size_t before = in.pos + out.pos;
      const std::size_t status = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(status) != 0)
        return fail(errc::protocol_mismatch,
                    std::string("multifd pages do not decompress: ") + ZSTD_getErrorName(status));
      if (in.pos + out.pos == before)
        return fail(errc::protocol_mismatch, "multifd pages decompress to another size than theirs");
    }
    return {};
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const noexcept { ZSTD_freeDStream(stream); }
  };
  std::unique_ptr<ZSTD_DStream, Free> stream_;
};

/// All of `into`; false if the channel ends before its first byte.
Result<bool> receive_unless_over(ByteStream& channel, Bytes into) {
  const auto got = channel.receive(into, Deadline::never());
  if (!got && got.error().is(errc::peer_gone)) return false;
  RAMFERRY_TRY(got);
  if (*got == 0) return false;
  RAMFERRY_TRY(receive_exactly(channel, into.subspan(*got), Deadline::never()));
  return true;
}

}  // namespace

MultifdReceiver::~MultifdReceiver() {
  if (threads_.empty()) return;
  streams_.cancel();
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = fail(errc::cancelled, "receiving multifd pages").value();
    changed_.notify_all();
  }
  for (std::thread& each : threads_) each.join();
}

void MultifdReceiver::start() {
  for (std::size_t number = 0; number < streams_.channels(); ++number)
    threads_.emplace_back([this, number] { run(streams_.channel(number)); });
}

Result<> MultifdReceiver::sync() {
  RAMFERRY_TRY(saver_.flush());
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return error_ || waiting_ + ended_ == streams_.channels(); });
  if (error_) return Failure(*error_);
  if (ended_ != 0)
    return fail(errc::peer_gone, "reading multifd channels: the source closed " + std::to_string(ended_) +
                                     " of " + std::to_string(streams_.channels()));
  waiting_ = 0;
  ++syncs_;
  changed_.notify_all();
  return {};
}

void MultifdReceiver::close() {
  const std::unique_lock lock(storing_);
  closed_ = true;
}

std::optional<Error> MultifdReceiver::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void MultifdReceiver::failed(Error error) {
  {
    const std::shared_lock lock(storing_);
    if (closed_) return;  // all is there; what becomes of a channel now is the source's affair
  }
  {
    const std::lock_guard lock(mutex_);
    if (error_) return;
    error_ = std::move(error);
    changed_.notify_all();
  }
  streams_.cancel();
}

void MultifdReceiver::run(ByteStream& channel) {
  if (auto read = read_packets(channel); !read)
    failed(within(std::move(read).error(), "reading a multifd channel").value());
}

Result<> MultifdReceiver::read_packets(ByteStream& channel) {
  std::array<std::byte, kPacketHeadBytes> head;
  std::vector<std::byte> pages(kPacketPages * kPageBytes), packed;
  Unpacker unpacker;
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const bool more, receive_unless_over(channel, head));
    if (!more) return end();
    RAMFERRY_TRY_ASSIGN(const MultifdPacket packet, decode_packet(head, saver_.blocks()));
    const Bytes content = Bytes(pages).first(packet.pages * kPageBytes);
    if (packet.compression == MultifdPacket::Compression::none || packet.pages == 0) {
      if (!content.empty()) RAMFERRY_TRY(receive_exactly(channel, content, Deadline::never()));
    } else {
      packed.resize(packet.payload);
      RAMFERRY_TRY(receive_exactly(channel, packed, Deadline::never()));
      RAMFERRY_TRY(unpacker.unpack(packed, content));
    }
    RAMFERRY_TRY(store(packet, content));
    if (packet.sync) RAMFERRY_TRY(wait_at_sync());
  }
}

Result<> MultifdReceiver::store(const MultifdPacket& packet, ConstBytes pages) {
  if (packet.pages == 0 && packet.zero_pages == 0) return {};
  const std::shared_lock lock(storing_);
  if (closed_) return fail(errc::protocol_mismatch, "pages behind the end of RAM");
  RAMFERRY_TRY(saver_.channel_pages(packet.block, packet.page_offsets(), pages));
  return saver_.channel_zeros(packet.block, packet.zero_offsets());
}

/// A source that has sent everything may close a channel before we have read the main stream: only the next
/// sync() tells whether it was too early.
Result<> MultifdReceiver::end() {
  const std::lock_guard lock(mutex_);
  ++ended_;
  changed_.notify_all();
  return {};
}

Result<> MultifdReceiver::wait_at_sync() {
  std::unique_lock lock(mutex_);
  const std::uint64_t now = syncs_;
  ++waiting_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return error_ || syncs_ != now; });
  return error_ ? Failure(*error_) : Result<>{};
}

}  // namespace ramferry::checkpoint
