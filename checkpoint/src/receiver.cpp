// SPDX-License-Identifier: MIT
// A VM that arrives in QEMU's dialect, and what both dialects share.
#include "file_io.hpp"
#include "file_names.hpp"
#include "hooked_ram.hpp"
#include "receiver_engine.hpp"
#include "return_path.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

namespace ramferry::checkpoint {
namespace {

/// A source without a return path closes as soon as it has sent all; an exec: command then ends.
constexpr auto kEndTimeout = std::chrono::seconds(10);
/// A QEMU whose RAM went past the stream hangs up at once; a sender of ours waits for us to do so.
constexpr auto kHookedEndTimeout = std::chrono::milliseconds(500);
constexpr auto kFarewell = std::chrono::seconds(2);
/// Twice: one is stored while the other is filled. A hand-over between threads costs as much as writing a few
/// hundred KiB, where it wakes a sleeping processor.
constexpr std::size_t kBufferBytes = 4U << 20;

}  // namespace

Receiver::Receiver(Link link, ReceiveOptions options, Log& log)
    : engine_(std::make_unique<Engine>(std::move(link), std::move(options), log)) {}
Receiver::~Receiver() = default;
Result<ReceiveReport> Receiver::run() {
  return engine_->run();
}
void Receiver::cancel() noexcept {
  engine_->cancel();
}

std::uint64_t Receiver::stream_bytes() const noexcept {
  return engine_->bytes().stats().wire_bytes_received;
}
std::uint64_t Receiver::ram_bytes() const noexcept {
  const StreamSaver* saver = engine_->saver();
  return saver == nullptr ? 0 : saver->ram_bytes();
}
std::uint64_t Receiver::seen_bytes() const noexcept {
  const StreamSaver* saver = engine_->saver();
  return saver == nullptr ? 0 : saver->seen_bytes();
}

void Receiver::Engine::cancel() noexcept {
  cancelled_ = true;
  bytes_of(link_).cancel();
}

Result<ReceiveReport> Receiver::Engine::run() {
  const auto begun = std::chrono::steady_clock::now();
  auto* const channel = std::get_if<std::unique_ptr<Channel>>(&link_);
  Result<> result = channel != nullptr ? receive_native(**channel) : receive_stream(bytes_of(link_));
  if (!result) {
    if (cancelled_ && !result.error().is(errc::outcome_unknown))
      return fail(errc::cancelled, "receiving a machine");
    return Failure(std::move(result).error());
  }
  report_.took = std::chrono::steady_clock::now() - begun;
  report_.syncing = file().syncing();
  report_.stream_bytes = bytes_of(link_).stats().wire_bytes_received;
  return report_;
}

void Receiver::Engine::begin(std::unique_ptr<StreamSaver> events) {
  events_ = std::move(events);
  saver_ = events_.get();
}

/// Where the file is written; a file in a folder gets its real name when the machine's is known.
std::filesystem::path Receiver::Engine::working_path() const {
  return options_.in_folder ? working_path_in(options_.path) : options_.path;
}

Result<> Receiver::Engine::publish(bool source_waits) {
  const std::string ending = plain_ ? ".qemu" : ".ckpt";
  Result<> published =
      options_.in_folder
          ? file().publish_free(stem_in(options_.path, report_.machine, std::time(nullptr)), ending)
          : file().publish();
  report_.path = file().path();
  if (published) return {};
  Error error = std::move(published).error();
  // Nothing is lost: but is it the guest, or a copy of one that runs on?
  error.advice = source_waits ? "the source is told to keep its guest: delete that file if it does; if not, "
                              : "it may be the only copy: ";
  error.advice += "move that file to a safe disk; 'ramferry send FILE URI' puts the machine back";
  return Failure(std::move(error));
}

Result<> Receiver::Engine::seal(const StreamSaver& saver, MachineState state, Origin origin) {
  CheckpointHead head;
  head.origin = origin;
  if (auto* channel = std::get_if<std::unique_ptr<Channel>>(&link_)) head.session = (*channel)->session();
  head.taken = std::time(nullptr);
  head.machine = saver.machine();
  head.configuration = saver.configuration();
  head.ram_section = saver.ram_section();
  head.beside = saver.beside();
  head.description_at = state.description_at;
  head.description_length = state.description_length;
  head.state = std::move(state.bytes);

  report_.machine = saver.machine();
  report_.origin = origin;
  report_.ram_bytes = saver.ram_bytes();
  report_.state_bytes = head.state.size();
  if (plain_) {
    RAMFERRY_TRY(plain_->sync());
  } else {
    RAMFERRY_TRY(writer_->seal(std::move(head)));
    report_.stored_pages = writer_->pages().pages();
    report_.overwritten = writer_->pages().overwritten();
  }
  report_.file_bytes = std::filesystem::file_size(file().name());
  return {};
}

/// Stores, and answers what the source asks on the way.
class Receiver::Engine::StreamEvents final : public StreamSaver {
 public:
  StreamEvents(Engine& engine, ByteStream& stream)
      : StreamSaver(engine.writer_ ? &engine.writer_->pages() : nullptr), engine_(engine), stream_(stream) {
    if (auto* hooked = dynamic_cast<HookedStream*>(&stream)) past_stream_.emplace(*hooked);
  }

  Result<> command(std::uint16_t id, ConstBytes data) override {
    if (id == qemu::kOpenReturnPath) return_path_ = true;
    if (id != qemu::kPing || !return_path_) return {};
    Result<> answered = qemu::send_pong(stream_, data);
    // A source whose RAM goes past the stream is there, and would take silence for our failure.
    if (answered || past_stream_ || !answered.error().is(errc::unsupported)) return answered;
    return_path_ = false;  // a stream that was recorded with one: nobody waits at the other end
    return {};
  }
  Result<> sync() override { return engine_.multifd_ ? engine_.multifd_->sync() : Result<>{}; }
  Result<> last_part() override {
    return engine_.plain_ ? engine_.plain_->sync() : engine_.writer_->make_durable(kStateRoom);
  }
  Result<> ram_begins(std::uint32_t section, std::vector<BlockInfo> blocks) override {
    RAMFERRY_TRY(StreamSaver::ram_begins(section, std::move(blocks)));
    if (engine_.multifd_) engine_.multifd_->start();
    return past_stream_ ? past_stream_->begin(this->blocks(), *this) : Result<>{};
  }
  Result<> hook() override { return past_stream_ ? past_stream_->round() : StreamSaver::hook(); }
  /// RAM has come; it is all stored when this returns.
  Result<> ram_ended() { return past_stream_ ? past_stream_->keep(*this) : Result<>{}; }
  bool return_path() const noexcept { return return_path_; }
  bool is_hooked() const noexcept { return past_stream_.has_value(); }

 private:
  std::optional<HookedRam> past_stream_;
  Engine& engine_;
  ByteStream& stream_;
  bool return_path_ = false;
};

Result<> Receiver::Engine::receive_stream(ByteStream& stream) {
  const bool hooked = dynamic_cast<HookedStream*>(&stream) != nullptr;
  if (options_.format == Format::stream && hooked)
    return fail(errc::unsupported, "keeping a plain stream without the RAM that travels past it",
                "receive it as a checkpoint, and then: ramferry send FILE file:PATH");
  auto* const bundle = dynamic_cast<StreamBundle*>(&stream);
  if (options_.format == Format::stream && bundle != nullptr)
    return fail(errc::unsupported, "keeping a migration with multifd as a plain stream",
                "leave --format qemu away, or switch the source's multifd off");
  RAMFERRY_TRY_ASSIGN(auto file, PartialFile::create(working_path()));
  if (options_.format == Format::stream)
    plain_.emplace(std::move(file));
  else
    writer_.emplace(std::move(file));
  StreamInput in(stream, kBufferBytes);
  auto owned = std::make_unique<StreamEvents>(*this, stream);
  StreamEvents& events = *owned;
  begin(std::move(owned));
  if (bundle != nullptr) multifd_ = std::make_unique<MultifdReceiver>(*bundle, events);
  Result<> kept = keep_stream(in, events);
  events.let_go();  // of views into `in`
  if (multifd_ && !kept) {
    Error error =
        multifd_->error().value_or(kept.error());  // a channel that fails takes the main stream along
    if (error.is(errc::peer_gone) && error.advice.empty())
      error.advice = "the source's messages say why; give both sides the same number of multifd channels";
    kept = Failure(std::move(error));
  }
  part_from_stream(stream, in, events.return_path(), kept.has_value());
  multifd_.reset();
  return kept;
}

Result<> Receiver::Engine::keep_stream(StreamInput& in, StreamEvents& events) {
  std::uint64_t written = 0;
  if (plain_) {
    in.tap([&](ConstBytes bytes) -> Result<> {
      RAMFERRY_TRY(write_at(plain_->fd(), written, bytes, plain_->name()));
      written += bytes.size();
      return {};
    });
  }
  SavevmParser parser(in, events, multifd_ ? RamBody::multifd : RamBody::records);
  RAMFERRY_TRY(parser.read_ram());
  RAMFERRY_TRY(events.ram_ended());
  if (multifd_) multifd_->close();
  RAMFERRY_TRY(events.check_complete());
  StateOptions options;
  options.stays_open = events.return_path();
  // Without one the end tells more: whether all was the state, and whether an exec: command succeeded.
  if (!events.return_path()) options.close_timeout = events.is_hooked() ? kHookedEndTimeout : kEndTimeout;
  if (!plain_) {
    RAMFERRY_TRY(writer_->make_durable(kStateRoom));
    options.make_room = [this](std::uint64_t so_far) {
      return so_far <= kStateRoom ? Result<>{} : writer_->pages().reserve(2 * so_far);
    };
  }
  RAMFERRY_TRY_ASSIGN(MachineState state, read_state(in, options));
  if (state.still_open && !events.is_hooked())
    log_.warn("the source has sent everything and keeps its connection open");
  report_.acknowledged = events.return_path();
  RAMFERRY_TRY(seal(events, std::move(state), Origin::qemu));
  if (events.return_path()) RAMFERRY_TRY(expect_nothing(in));
  return publish(events.return_path());
}

/// A guest may have made its devices' state look as if it were over where a piece of it ended. The rest has
/// come meanwhile: sealing takes longer than sending it.
Result<> Receiver::Engine::expect_nothing(StreamInput& in) {
  in.set_deadline(Deadline::after(std::chrono::milliseconds(0)));
  const auto bytes = in.some();
  in.set_deadline(Deadline::never());
  if (!bytes || bytes->empty()) return {};
  return fail(errc::protocol_mismatch,
              "reading the machine's state: it went on behind what looked like its end",
              "migrate again; if it stays so, a program in the guest does it on purpose");
}

/// Tells a source that waits for it how it went. Only now may it forget its guest.
void Receiver::Engine::part_from_stream(ByteStream& stream, StreamInput& in, bool return_path, bool kept) {
  if (!return_path) return;
  if (!qemu::send_shut(stream, kept ? 0 : 1)) {
    if (kept) log_.warn("the source was gone before it was told that its machine is saved");
    return;
  }
  if (!stream.finish(Deadline::after(kFarewell))) return;
  in.tap({});
  in.before_refill({});
  const Deadline until = Deadline::after(kFarewell);
  in.set_deadline(until);
  while (!until.passed()) {
    const auto bytes = in.some();
    if (!bytes || bytes->empty()) return;
  }
}

}  // namespace ramferry::checkpoint
