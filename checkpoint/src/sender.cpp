// SPDX-License-Identifier: MIT
#include "file_input.hpp"
#include "multifd_sender.hpp"
#include "record_sender.hpp"
#include "return_path.hpp"
#include "savevm_parser.hpp"
#include "sender_engine.hpp"
#include "stream_saver.hpp"

namespace ramferry::checkpoint {

using migration::savevm::Mark;

namespace {

/// The reference VM has no return path in QEMU's dialect, and refuses to be asked for one.
bool reads_commands(const std::string& machine) {
  return !machine.starts_with("ramferry-");
}

/// A plain stream without a head. That a file ends is nobody's leaving.
Failure not_a_stream(Error error, const std::filesystem::path& path) {
  if (error.is(errc::peer_gone)) error.code = make_error_code(errc::protocol_mismatch);
  error.advice = "it is neither a checkpoint nor a migration stream; give a file that 'receive' has saved";
  return within(std::move(error), "reading " + path.string());
}

}  // namespace

Sender::Sender(Link link, std::filesystem::path path, SendOptions options)
    : engine_(std::make_unique<Engine>(std::move(link), std::move(path), options)) {}
Sender::~Sender() = default;
Result<SendReport> Sender::run() {
  return engine_->run();
}
void Sender::cancel() noexcept {
  engine_->cancel();
}
std::uint64_t Sender::ram_bytes() const noexcept {
  return engine_->ram_bytes();
}
std::uint64_t Sender::done_bytes() const noexcept {
  return engine_->done_bytes();
}

void append_ram_mark(WireWriter& out, const CheckpointHead& head, Mark mark) {
  out.u8(static_cast<std::uint8_t>(mark)).u32(head.ram_section);
}

void append_blocks(WireWriter& out, const CheckpointHead& head) {
  std::uint64_t total = 0;
  for (const BlockInfo& block : head.blocks) total += block.bytes;
  out.text8("ram").u32(0).u32(4);
  out.u64(total | ram_wire::kMemSize);
  for (const BlockInfo& block : head.blocks) out.text8(block.name).u64(block.bytes);
}

void append_part_end(WireWriter& out, const CheckpointHead& head) {
  out.u64(ram_wire::kEnd);
  append_ram_mark(out, head, Mark::footer);
}

void append_ram_start(WireWriter& out, const CheckpointHead& head, std::uint64_t record) {
  append_ram_mark(out, head, Mark::start);
  append_blocks(out, head);
  if (record != 0) out.u64(record);
  append_part_end(out, head);
  out.raw(head.beside);
}

std::vector<std::byte> stream_without_pages(const CheckpointHead& head) {
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  out.raw(head.configuration);
  append_ram_start(out, head);
  append_ram_mark(out, head, Mark::end);
  append_part_end(out, head);
  out.raw(head.state);
  return bytes;
}

Result<> each_stretch(const CheckpointFile& file, const std::function<Result<>(const Stretch&)>& visit) {
  auto run = file.runs().begin();
  for (std::uint32_t block = 0; block < file.head().blocks.size(); ++block) {
    const std::uint64_t pages = file.head().blocks[block].bytes / kPageBytes;
    std::uint64_t next = 0;
    for (; run != file.runs().end() && run->block == block; ++run) {
      if (run->first > next) RAMFERRY_TRY(visit({block, next, run->first - next, nullptr}));
      RAMFERRY_TRY(visit({block, run->first, run->count, &*run}));
      next = run->first + run->count;
    }
    if (next < pages) RAMFERRY_TRY(visit({block, next, pages - next, nullptr}));
  }
  return {};
}

void Sender::Engine::cancel() noexcept {
  cancelled_ = true;
  bytes_of(link_).cancel();
}

Result<SendReport> Sender::Engine::run() {
  const auto begun = std::chrono::steady_clock::now();
  auto sent = send_any();
  if (!sent) {
    if (cancelled_ && !sent.error().is(errc::outcome_unknown))
      return fail(errc::cancelled, "sending " + path_.string());
    Error error = std::move(sent).error();
    if (error.is(errc::peer_gone) && error.advice.empty()) error.advice = qemu::kRefusalAdvice;
    return within(std::move(error), "sending " + path_.string());
  }
  report_.took = std::chrono::steady_clock::now() - begun;
  report_.stream_bytes = bytes_of(link_).stats().wire_bytes_sent;
  return report_;
}

Result<> Sender::Engine::send_any() {
  auto* const channel = std::get_if<std::unique_ptr<Channel>>(&link_);
  RAMFERRY_TRY_ASSIGN(const bool is_checkpoint, CheckpointFile::is_checkpoint(path_));
  auto* const hooked = dynamic_cast<HookedStream*>(&bytes_of(link_));
  if (!is_checkpoint) {
    if (hooked != nullptr)
      return fail(errc::unsupported,
                  "sending the plain stream " + path_.string() + " with its RAM past the stream",
                  "receive it into a checkpoint first, or send it over tcp: or unix:");
    if (channel != nullptr)
      return fail(errc::unsupported, "sending the plain stream " + path_.string() + " in the native dialect",
                  "add ?dialect=qemu to the address");
    return send_plain(bytes_of(link_));
  }
  RAMFERRY_TRY_ASSIGN(const CheckpointFile file, CheckpointFile::open(path_));
  report_.machine = file.head().machine;
  report_.ram_bytes = file.ram_bytes();
  report_.sent_pages = file.stored_pages();
  report_.zero_pages = file.ram_bytes() / kPageBytes - file.stored_pages();
  ram_bytes_ = file.ram_bytes();
  if (hooked != nullptr) return send_hooked(file, *hooked);
  return channel != nullptr ? send_native(file, **channel) : send_records(file, bytes_of(link_));
}

Result<> Sender::Engine::send_records(const CheckpointFile& file, ByteStream& stream) {
  const CheckpointHead& head = file.head();
  std::vector<std::byte> bytes;
  WireWriter out(bytes);
  out.raw(head.configuration);
  options_.return_path = options_.return_path && reads_commands(head.machine);
  if (options_.return_path) qemu::append_commands(out);
  if (auto* const bundle = dynamic_cast<StreamBundle*>(&stream)) {
    RAMFERRY_TRY_ASSIGN(const SyncPlace place, sync_place(head.machine));
    RAMFERRY_TRY(stream.send(bytes));
    RAMFERRY_TRY(send_over_channels(file, *bundle, place, done_bytes_));
  } else {
    append_ram_start(out, head);
    RAMFERRY_TRY(stream.send(bytes));
    RAMFERRY_TRY(send_ram_records(file, stream, done_bytes_));
  }
  RAMFERRY_TRY(stream.send(head.state));
  return end_stream(stream);
}

/// A destination that was not asked closes when it has all, or not at all: its silence is no sign of failure.
Result<> Sender::Engine::end_stream(ByteStream& stream) {
  const Deadline until = Deadline::after(options_.answer_timeout);
  if (options_.return_path) {
    RAMFERRY_TRY(qemu::await_shut(stream, until));
    report_.acknowledged = true;
    (void)stream.finish(until);
    return {};
  }
  RAMFERRY_TRY(stream.finish(until));
  report_.acknowledged = stream.all_or_nothing();
  return {};
}

Result<> Sender::Engine::send_plain(ByteStream& stream) {
  if (dynamic_cast<StreamBundle*>(&stream) != nullptr)
    return fail(errc::unsupported, "sending a plain stream with multifd", "leave channels=N away");
  RAMFERRY_TRY_ASSIGN(const auto file, FileInput::open(path_));
  ram_bytes_ = file->size();
  StreamInput in(*file);
  StreamSaver events(nullptr);
  SavevmParser parser(in, events, RamBody::records);
  if (auto head = parser.read_head(); !head) return not_a_stream(std::move(head).error(), path_);
  in.before_refill({});
  report_.machine = events.machine();
  options_.return_path = options_.return_path && reads_commands(report_.machine);

  std::vector<std::byte> bytes = events.configuration();
  WireWriter out(bytes);
  // A stream that was recorded with a return path asks for one already.
  RAMFERRY_TRY_ASSIGN(const auto next, in.peek());
  if (options_.return_path && next != static_cast<std::uint8_t>(Mark::command)) qemu::append_commands(out);
  RAMFERRY_TRY(stream.send(bytes));
  for (;;) {
    RAMFERRY_TRY_ASSIGN(const ConstBytes some, in.some());
    if (some.empty()) break;
    RAMFERRY_TRY(stream.send(some));
    done_bytes_ += some.size();
  }
  return end_stream(stream);
}

}  // namespace ramferry::checkpoint
