// SPDX-License-Identifier: MIT
// A kept VM that leaves for a ramferry destination: pages are placed, and it says when it has the guest.
#include "sender_engine.hpp"

#include <ramferry/migration/native_protocol.hpp>
#include <ramferry/migration/section_stream.hpp>

#include <algorithm>
#include <array>

namespace ramferry::checkpoint {

namespace native = migration::native;
using migration::savevm::Mark;
using native::MessageType;

namespace {

constexpr std::size_t kBufferPages = 1024;  // 4 MiB, two of them

/// Places pages from two buffers in turn: one fills while the other is under way.
class PagePlacer {
 public:
  PagePlacer(const CheckpointFile& file, Channel& channel, bool blank, std::atomic<std::uint64_t>& done)
      : file_(file), channel_(channel), blank_(blank), done_(done) {
    for (Buffer& each : buffers_) each.memory.resize(kBufferPages * kPageBytes);
  }

  Result<> stretch(const Stretch& stretch) {
    if (stretch.run == nullptr) {
      const std::array zeros = {
          ZeroRun{SlotId{stretch.block}, stretch.first * kPageBytes, stretch.count * kPageBytes}};
      if (!blank_) RAMFERRY_TRY(channel_.zero(zeros));
      done_ += stretch.count * kPageBytes;
      return {};
    }
    for (std::uint64_t skip = 0; skip < stretch.count;) {
      if (used_ == kBufferPages) RAMFERRY_TRY(turn());
      const std::uint64_t count = std::min<std::uint64_t>(kBufferPages - used_, stretch.count - skip);
      RAMFERRY_TRY(place(stretch, skip, count));
      skip += count;
    }
    return {};
  }
  /// Orders all that was placed.
  Result<Epoch> fence() { return channel_.fence(); }

 private:
  struct Buffer {
    std::vector<std::byte> memory;
    Epoch epoch = 0;  ///< settles when it may be filled again
  };

  Result<> place(const Stretch& stretch, std::uint64_t skip, std::uint64_t count) {
    const Bytes memory = Bytes(buffers_[current_].memory).subspan(used_ * kPageBytes, count * kPageBytes);
    into_.clear();
    for (std::uint64_t i = 0; i < count; ++i) into_.push_back(memory.subspan(i * kPageBytes, kPageBytes));
    RAMFERRY_TRY(file_.read(*stretch.run, skip, into_));
    const std::array placements = {Placement{
        .slot = SlotId{stretch.block}, .offset = (stretch.first + skip) * kPageBytes, .bytes = memory}};
    RAMFERRY_TRY(channel_.place(placements));
    used_ += count;
    done_ += memory.size();
    return {};
  }

  Result<> turn() {
    RAMFERRY_TRY_ASSIGN(buffers_[current_].epoch, channel_.fence());
    current_ = 1 - current_;
    used_ = 0;
    if (buffers_[current_].epoch == 0) return {};
    return channel_.settle(buffers_[current_].epoch, Deadline::never());
  }

  const CheckpointFile& file_;
  Channel& channel_;
  bool blank_;
  std::atomic<std::uint64_t>& done_;
  std::array<Buffer, 2> buffers_;
  std::size_t current_ = 0, used_ = 0;
  std::vector<Bytes> into_;
};

/// The next message of the destination, which must be `wanted`.
Result<native::Message> expect(migration::StreamReader& in, MessageType wanted) {
  RAMFERRY_TRY_ASSIGN(auto message, native::read_message(in));
  if (message.type == MessageType::failed)
    return Failure(native::decode_failed(message.payload, "the destination"));
  if (message.type != wanted)
    return fail(errc::protocol_mismatch, "the destination said '" + std::string(to_string(message.type)) +
                                             "' instead of '" + std::string(to_string(wanted)) + "'");
  return message;
}

}  // namespace

Result<> Sender::Engine::send_native(const CheckpointFile& file, Channel& channel) {
  const CheckpointHead& head = file.head();
  migration::StreamReader in(channel);
  in.set_deadline(Deadline::after(options_.answer_timeout));
  native::Hello hello;
  hello.session = channel.session();
  hello.page_bytes = kPageBytes;
  hello.machine = head.machine;
  RAMFERRY_TRY(native::send_message(channel, MessageType::hello, native::encode(hello)));
  RAMFERRY_TRY_ASSIGN(const auto answer, expect(in, MessageType::hello_reply));
  RAMFERRY_TRY_ASSIGN(const auto reply, native::decode_hello_reply(answer.payload));

  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  out.raw(head.configuration);
  append_ram_start(out, head);
  RAMFERRY_TRY(channel.send(bytes));
  RAMFERRY_TRY(expect(in, MessageType::slots_ready));

  PagePlacer placer(file, channel, reply.blank, done_bytes_);
  RAMFERRY_TRY(each_stretch(file, [&](const Stretch& stretch) { return placer.stretch(stretch); }));
  RAMFERRY_TRY_ASSIGN(const Epoch epoch, placer.fence());
  bytes.clear();
  append_ram_mark(out, head, Mark::end);
  out.u64(epoch);
  append_part_end(out, head);
  RAMFERRY_TRY(channel.send(bytes));
  RAMFERRY_TRY(channel.send(head.state));

  in.set_deadline(Deadline::after(options_.answer_timeout));
  RAMFERRY_TRY(expect(in, MessageType::prepared));
  // The checkpoint stays whoever runs the guest: the file has no life of its own that could be doubled here.
  const auto hand_over = [&]() -> Result<> {
    RAMFERRY_TRY(native::send_message(channel, MessageType::commit));
    in.set_deadline(Deadline::after(options_.answer_timeout));
    RAMFERRY_TRY(expect(in, MessageType::running));
    return {};
  };
  if (auto done = hand_over(); !done)
    return fail(errc::outcome_unknown, "handing the machine over: " + done.error().message(),
                "ask the destination whether it runs the machine before sending it elsewhere");
  report_.acknowledged = true;
  (void)channel.finish(Deadline::after(std::chrono::seconds(2)));
  return {};
}

}  // namespace ramferry::checkpoint
