// SPDX-License-Identifier: MIT
#include "qemu_source.hpp"

#include <ramferry/endpoint.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace ramferry::rdma::qemu {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kSmallZero = 64U << 10;  // cheaper written than asked for
constexpr std::size_t kPostAt = 32;
constexpr std::uint32_t kSignalEvery = 64;
constexpr std::uint32_t kProgressOnly = 0xffff;  // the id of a write that frees no buffer

Failure lie(const std::string& what) {
  return fail(errc::protocol_mismatch, "writing into the destination: " + what);
}

Failure only_sends() {
  return fail(errc::wrong_state, "taking RAM from a destination");
}

}  // namespace

Result<std::unique_ptr<QemuSource>> QemuSource::make(std::unique_ptr<QemuLink> link, Plan plan) {
  plan.run = std::max(plan.run / kChunkBytes, std::uint64_t{1}) * kChunkBytes;
  std::unique_ptr<QemuSource> source(new QemuSource(std::move(link), plan));
  source->memory_.resize(kBuffers * kBufferBytes);
  RAMFERRY_TRY_ASSIGN(source->region_, source->link_->pin(source->memory_, Rights::read));
  source->link_->on_written([raw = source.get()](std::uint64_t id) {
    if (id < kBuffers) raw->busy_[id] = false;
  });
  return source;
}

Facts QemuSource::facts() const {
  return {{"device", link_->domain().device().name},
          {"protocol", "QEMU RDMA 1"},
          {"pin", plan_.pin_all ? "all" : "demand"}};
}

Result<> QemuSource::send(ConstBytes bytes) {
  link_->counters().message_bytes_sent.add(bytes.size());
  while (!bytes.empty()) {
    const ConstBytes piece = bytes.first(std::min(bytes.size(), kMostStreamBytes));
    RAMFERRY_TRY(link_->send_when_ready(MessageType::stream, 1, piece));
    bytes = bytes.subspan(piece.size());
  }
  return {};
}

Result<std::size_t> QemuSource::receive(Bytes /*into*/, Deadline /*deadline*/) {
  return fail(errc::unsupported, "hearing from the destination: a return path over RDMA is not opened here");
}

Result<> QemuSource::finish(Deadline deadline) {
  RAMFERRY_TRY(link_->drain(deadline));
  for (;;) {
    const auto message = link_->next(deadline);
    if (!message && message.error().is(errc::timed_out)) return {};
    if (!message) return Failure(message.error());
    if (!*message) return {};
  }
}

Result<> QemuSource::agree(std::span<const std::uint64_t> block_bytes, std::vector<Range> plan) {
  RAMFERRY_TRY(link_->send_when_ready(MessageType::blocks_request, 1, {}));
  RAMFERRY_TRY_ASSIGN(const auto message, link_->next(Deadline::never()));
  if (!message) return fail(FabricErrc::disconnected, "asking the destination for its RAM blocks");
  if (message->type != MessageType::blocks_result)
    return lie("it answered the request for its blocks with '" + std::string(to_string(message->type)) + "'");
  blocks_ = blocks_of(*message);
  RAMFERRY_TRY(check_blocks(block_bytes));
  for (const Block& block : blocks_) {
    const std::uint64_t run = plan_.pin_all ? std::max(block.length, kChunkBytes) : plan_.run;
    keys_.emplace_back(block.length / run + (block.length % run != 0 ? 1 : 0));
    if (plan_.pin_all && block.length > 0) keys_.back().front() = {true, block.key, block.address};
  }
  for (const Range& range : plan) RAMFERRY_TRY(check_range(range));
  plan_ahead(plan);
  return link_->send_when_ready(MessageType::round_over, 1, {});
}

Result<> QemuSource::check_blocks(std::span<const std::uint64_t> block_bytes) {
  if (blocks_.size() != block_bytes.size())
    return fail(errc::protocol_mismatch,
                "comparing RAM blocks: the destination has " + std::to_string(blocks_.size()) +
                    ", the machine " + std::to_string(block_bytes.size()),
                "start the destination with the same machine and devices");
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].length != block_bytes[i])
      return fail(errc::protocol_mismatch,
                  "comparing RAM blocks: number " + std::to_string(i) + " has " +
                      format_size(blocks_[i].length) + " at the destination, and " +
                      format_size(block_bytes[i]) + " in the machine",
                  "start the destination with the same machine and memory");
    if (blocks_[i].address + blocks_[i].length < blocks_[i].address ||
        blocks_[i].offset + blocks_[i].length < blocks_[i].offset)
      return lie("block " + std::to_string(i) + " wraps around");
  }
  return {};
}

void QemuSource::plan_ahead(const std::vector<Range>& ranges) {
  if (plan_.pin_all) return;
  for (const Range& range : ranges) {
    for (std::uint64_t run = range.offset / plan_.run; run * plan_.run < range.offset + range.length; ++run) {
      const bool planned =
          !ahead_.empty() && ahead_.back().block == range.block && ahead_.back().number == run;
      if (!planned) ahead_.push_back({range.block, run});
    }
  }
}

Result<> QemuSource::check_range(const Range& range) const {
  if (range.block < blocks_.size() && range.offset <= blocks_[range.block].length && range.length != 0 &&
      range.length <= blocks_[range.block].length - range.offset)
    return {};
  return fail(errc::invalid_argument, "writing " + std::to_string(range.length) + " bytes at " +
                                          std::to_string(range.offset) + " of RAM block " +
                                          std::to_string(range.block));
}

/// Takes in what the destination has answered.
Result<> QemuSource::collect() {
  while (link_->has_message()) {
    RAMFERRY_TRY_ASSIGN(const auto message, link_->next(Deadline::never()));
    if (!message || message->type != MessageType::register_result || !asked_)
      return lie("it sent '" + std::string(message ? to_string(message->type) : "nothing") +
                 "', which was not asked for");
    const auto results = results_of(*message);
    if (results.size() != 1) return lie(std::to_string(results.size()) + " registrations for one request");
    key_of(*asked_) = {true, results.front().key, results.front().address};
    asked_.reset();
  }
  return {};
}

Result<> QemuSource::wait_for(const std::function<bool()>& ready, const std::string& doing) {
  for (;;) {
    RAMFERRY_TRY(collect());
    if (ready()) return {};
    RAMFERRY_TRY(
        link_->wait_until([&] { return link_->has_message() || ready(); }, Deadline::never(), doing));
  }
}

Result<> QemuSource::ask_for(const Run& run) {
  RAMFERRY_TRY(wait_for([&] { return !asked_ && link_->may_send(); }, "registering the destination's RAM"));
  const Block& block = blocks_[run.block];
  const std::uint64_t begin = run.number * plan_.run;
  const std::uint64_t length = std::min(plan_.run, block.length - begin);
  const RegisterRequest request{.where = block.offset + begin,
                                .block = run.block,
                                .more_chunks = (length + kChunkBytes - 1) / kChunkBytes - 1};
  RAMFERRY_TRY(link_->send_when_ready(MessageType::register_request, 1, records(request)));
  asked_ = run;
  return {};
}

/// Has the next run registered if that costs no waiting.
Result<> QemuSource::ask_ahead() {
  RAMFERRY_TRY(collect());
  while (!ahead_.empty() && key_of(ahead_.front()).known) ahead_.pop_front();
  if (ahead_.empty() || asked_ || !link_->may_send()) return {};
  const Run run = ahead_.front();
  ahead_.pop_front();
  return ask_for(run);
}

Result<QemuSource::Key> QemuSource::key_for(std::uint32_t block, std::uint64_t offset) {
  const Run run{block, plan_.pin_all ? 0 : offset / plan_.run};
  RAMFERRY_TRY(ask_ahead());
  const auto is_asked = [&] { return asked_ && asked_->block == run.block && asked_->number == run.number; };
  if (!key_of(run).known && !is_asked()) RAMFERRY_TRY(ask_for(run));
  RAMFERRY_TRY(wait_for([&] { return key_of(run).known; }, "registering the destination's RAM"));
  return key_of(run);
}

Result<Bytes> QemuSource::stage(const Range& wanted) {
  queue_staged();
  RAMFERRY_TRY(check_range(wanted));
  RAMFERRY_TRY_ASSIGN(const Key key, key_for(wanted.block, wanted.offset));
  if (kBufferBytes - used_ < std::min(kPage, wanted.length)) RAMFERRY_TRY(next_buffer());
  if (pending_.size() >= kPostAt) RAMFERRY_TRY(post(false));
  std::uint64_t length = std::min<std::uint64_t>(wanted.length, kBufferBytes - used_);
  if (!plan_.pin_all) length = std::min(length, plan_.run - wanted.offset % plan_.run);
  const Bytes into = region_->memory().subspan(buffer_ * kBufferBytes + used_, length);
  used_ += length;
  staged_ = WorkRequest{.local = into.data(),
                        .length = static_cast<std::uint32_t>(length),
                        .local_key = region_->local_key(),
                        .remote_address = key.base + wanted.offset,
                        .remote_key = key.key,
                        .id = kProgressOnly};
  link_->counters().placed_bytes_sent.add(length);
  link_->counters().copied_bytes.add(length);
  return into;
}

/// What stage() returned last has been filled: as a write of its own, or as more of the one before.
void QemuSource::queue_staged() {
  if (!staged_) return;
  const WorkRequest next = *std::exchange(staged_, std::nullopt);
  if (!pending_.empty()) {
    WorkRequest& last = pending_.back();
    if (last.local + last.length == next.local && last.remote_key == next.remote_key &&
        last.remote_address + last.length == next.remote_address) {
      last.length += next.length;
      return;
    }
  }
  pending_.push_back(next);
}

/// Posts what is pending. The last write of a buffer reports, and with it all before; it is kept back until
/// it is known to be the last.
Result<> QemuSource::post(bool last_of_buffer) {
  std::span<WorkRequest> list(pending_);
  if (!last_of_buffer) list = list.first(list.size() - 1);
  for (WorkRequest& request : list) {
    request.signaled = ++unsignaled_ >= kSignalEvery;
    if (request.signaled) unsignaled_ = 0;
    link_->counters().wire_bytes_sent.add(request.length);
  }
  if (last_of_buffer) {
    list.back().signaled = true;
    list.back().id = buffer_;
    unsignaled_ = 0;
  }
  RAMFERRY_TRY(link_->write(list));
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(list.size()));
  return {};
}

/// Sends what is in the buffer and takes the next one that is free.
Result<> QemuSource::next_buffer() {
  if (used_ > 0) {
    busy_[buffer_] = true;
    RAMFERRY_TRY(post(true));
  }
  buffer_ = (buffer_ + 1) % kBuffers;
  used_ = 0;
  return wait_for([this] { return !busy_[buffer_]; }, "writing RAM into the destination");
}

bool QemuSource::all_written() const noexcept {
  return std::none_of(busy_.begin(), busy_.end(), [](bool busy) { return busy; });
}

Result<> QemuSource::zero(const Range& range) {
  queue_staged();
  RAMFERRY_TRY(check_range(range));
  if (range.length <= kSmallZero) {
    Range rest = range;
    while (rest.length > 0) {
      RAMFERRY_TRY_ASSIGN(const Bytes into, stage(rest));
      std::memset(into.data(), 0, into.size());
      rest.offset += into.size();
      rest.length -= into.size();
    }
    return {};
  }
  RAMFERRY_TRY(wait_for([this] { return link_->may_send(); }, "zeroing RAM of the destination"));
  const Zero wanted{
      .block = range.block, .where = blocks_[range.block].offset + range.offset, .length = range.length};
  link_->counters().zero_bytes_sent.add(range.length);
  return link_->send_when_ready(MessageType::zero, 1, records(wanted));
}

Result<> QemuSource::end_round() {
  queue_staged();
  RAMFERRY_TRY(next_buffer());
  RAMFERRY_TRY(wait_for([this] { return all_written() && !asked_ && link_->may_send(); },
                        "writing RAM into the destination"));
  RAMFERRY_TRY(link_->check());  // a round that is over has arrived whole
  return link_->send_when_ready(MessageType::round_over, 1, {});
}

Result<> QemuSource::land(std::vector<Landing*> /*blocks*/) {
  return only_sends();
}
Result<> QemuSource::take_round() {
  return only_sends();
}

}  // namespace ramferry::rdma::qemu
