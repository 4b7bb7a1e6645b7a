// SPDX-License-Identifier: MIT
// A VM that arrives from a ramferry source: its pages are placed straight into the checkpoint.
#include "file_names.hpp"
#include "receiver_engine.hpp"

#include <ramferry/migration/native_protocol.hpp>

namespace ramferry::checkpoint {

namespace native = migration::native;
using native::MessageType;

namespace {

constexpr auto kRevoke = std::chrono::seconds(10);
constexpr auto kFarewell = std::chrono::seconds(2);

/// A RAM block of the checkpoint. There is no window: a page's place in the file is found when it comes.
class BlockLanding final : public Landing {
 public:
  BlockLanding(PageStore& pages, std::uint32_t block) : pages_(pages), block_(block) {}
  std::uint64_t size() const noexcept override { return pages_.blocks()[block_].bytes; }
  Bytes window(std::uint64_t /*offset*/, std::uint64_t /*length*/) noexcept override { return {}; }
  void note_written(std::uint64_t /*offset*/, std::uint64_t /*length*/) noexcept override {}
  Result<> store(std::uint64_t offset, std::uint64_t length, Encoding encoding, ConstBytes bytes) override {
    if (encoding != kRawEncoding) return Landing::store(offset, length, encoding, bytes);
    const std::array piece = {Piece{block_, offset, bytes}};
    return pages_.write(piece);
  }
  Result<> zero(std::uint64_t offset, std::uint64_t length) override {
    return pages_.zero(block_, offset, length);
  }

 private:
  PageStore& pages_;
  std::uint32_t block_;
};

}  // namespace

/// Exposes the checkpoint's blocks once they are known.
class Receiver::Engine::NativeEvents final : public StreamSaver {
 public:
  NativeEvents(Engine& engine, Channel& channel)
      : StreamSaver(&engine.writer_->pages()), engine_(engine), channel_(channel) {}

  Result<> ram_begun() override {
    PageStore& pages = engine_.writer_->pages();
    for (std::uint32_t block = 0; block < pages.blocks().size(); ++block) {
      engine_.landings_.push_back(std::make_unique<BlockLanding>(pages, block));
      RAMFERRY_TRY(channel_.expose(SlotId{block}, *engine_.landings_.back()));
    }
    return native::send_message(channel_, MessageType::slots_ready);
  }
  Result<> last_part() override { return engine_.writer_->make_durable(kStateRoom); }

 private:
  Engine& engine_;
  Channel& channel_;
};

Result<> Receiver::Engine::receive_native(Channel& channel) {
  if (options_.format != Format::checkpoint)
    return fail(errc::unsupported, "keeping a ramferry machine as a plain stream while it arrives",
                "receive it as a checkpoint, and then: ramferry send FILE file:PATH");
  RAMFERRY_TRY_ASSIGN(auto file, PartialFile::create(working_path()));
  writer_.emplace(std::move(file));
  StreamInput in(channel);
  const auto taking = [&]() -> Result<> {
    RAMFERRY_TRY(greet(in, channel));
    RAMFERRY_TRY(load_native(in, channel));
    RAMFERRY_TRY(await_commit(in, channel));
    RAMFERRY_TRY(publish(false));
    report_.acknowledged = true;
    if (auto sent = native::send_message(channel, MessageType::running); !sent)
      log_.warn("the source does not know that its machine is saved: " + sent.error().message());
    return {};
  };
  Result<> result = taking();
  part_from_native(in, channel, result);
  return result;
}

Result<> Receiver::Engine::greet(StreamInput& in, Channel& channel) {
  in.set_deadline(Deadline::after(options_.hand_over_timeout));
  RAMFERRY_TRY_ASSIGN(const auto message, native::read_message(in));
  in.set_deadline(Deadline::never());
  // Pages are kept as they are placed: no encoding is known here.
  RAMFERRY_TRY_ASSIGN(const auto hello, native::accept_hello(message, 0));
  if (hello.page_bytes != kPageBytes)
    return fail(errc::unsupported, "the source has pages of " + std::to_string(hello.page_bytes) + " bytes");
  native::HelloReply reply;
  reply.blank = true;
  return native::send_message(channel, MessageType::hello_reply, native::encode(reply));
}

Result<> Receiver::Engine::load_native(StreamInput& in, Channel& channel) {
  begin(std::make_unique<NativeEvents>(*this, channel));
  auto state = read_machine(in);
  in.before_refill({});
  if (!state) return Failure(std::move(state).error());
  // Nothing may land any more: what is sealed stays as it is.
  RAMFERRY_TRY(channel.revoke(Deadline::after(kRevoke)));
  return seal(*events_, std::move(*state), Origin::native);
}

Result<MachineState> Receiver::Engine::read_machine(StreamInput& in) {
  SavevmParser parser(in, *events_, RamBody::placed);
  RAMFERRY_TRY(parser.read_ram());
  StateOptions options;
  options.make_room = [this](std::uint64_t so_far) {
    return so_far <= kStateRoom ? Result<>{} : writer_->pages().reserve(2 * so_far);
  };
  return read_state(in, options);
}

Result<> Receiver::Engine::await_commit(StreamInput& in, Channel& channel) {
  // A source that left before this may have said why: then it keeps the guest.
  const auto sent = native::send_message(channel, MessageType::prepared);
  in.set_deadline(Deadline::after(sent ? options_.hand_over_timeout : std::chrono::milliseconds(0)));
  const auto answer = native::read_message(in);
  in.set_deadline(Deadline::never());
  auto ours = native::committed(sent, answer);
  if (!ours && ours.error().is(errc::outcome_unknown)) return outcome_unknown(ours.error().doing);
  return ours;
}

/// The source has all of our answers but one of its own is missing: whose the guest is cannot be told from
/// here.
Result<> Receiver::Engine::outcome_unknown(const std::string& why) {
  const Result<> kept = options_.in_folder
                            ? file().publish_free(stem_in(options_.path, report_.machine, std::time(nullptr)),
                                                  ".ckpt.unconfirmed")
                            : file().publish_free(options_.path, ".unconfirmed");
  return fail(errc::outcome_unknown,
              "waiting for the machine to be handed over: " + why + "; it is kept as " +
                  file().path().string() + (kept ? "" : ", because of this: " + kept.error().doing),
              "ask the source whether it still runs it; 'ramferry send' that file only if it does not");
}

/// Says why, if it failed, and lets the source hang up first, so that our last message is not lost with the
/// link.
void Receiver::Engine::part_from_native(StreamInput& in, Channel& channel, const Result<>& result) {
  const Deadline until = Deadline::after(kFarewell);
  if (!result && !result.error().is(errc::outcome_unknown)) {
    const auto text = native::encode_failed(result.error().message());
    if (!native::send_message(channel, MessageType::failed, text)) return;
  }
  if (!channel.finish(until)) return;
  in.set_deadline(until);
  while (!until.passed()) {
    const auto bytes = in.some();
    if (!bytes || bytes->empty()) return;
  }
}

}  // namespace ramferry::checkpoint
