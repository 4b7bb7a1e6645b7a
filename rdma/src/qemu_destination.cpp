// SPDX-License-Identifier: MIT
#include "qemu_destination.hpp"

#include "whole_memory.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace ramferry::rdma::qemu {
namespace {

/// What our memory is called in the source's writes: not where it is, and never 0.
constexpr std::uint64_t kAddresses = 1ULL << 40;
constexpr std::uint64_t kMostBytes = 1ULL << 60;
/// So many requests in a row make a source that goes through its memory in order.
constexpr unsigned kInOrder = 3;

Failure lie(const std::string& what) {
  return fail(errc::protocol_mismatch, "serving the source's RDMA: " + what);
}

Failure only_receives() {
  return fail(errc::wrong_state, "sending RAM to a source");
}

}  // namespace

QemuDestination::~QemuDestination() {
  close_windows();
}

Facts QemuDestination::facts() const {
  return {{"device", link_->domain().device().name},
          {"protocol", "QEMU RDMA 1"},
          {"pin", pin_all_ ? "all" : "demand"}};
}

Result<> QemuDestination::send(ConstBytes /*bytes*/) {
  return fail(errc::unsupported, "answering the source: its return path over RDMA is not taken here",
              "switch its capability return-path off");
}

/// Lets the source send one message, unless it may already.
Result<> QemuDestination::ask_once() {
  if (!asked_) RAMFERRY_TRY(link_->send(MessageType::ready, 1, {}));
  asked_ = true;
  return {};
}

Result<std::size_t> QemuDestination::receive(Bytes into, Deadline deadline) {
  while (pending_.empty()) {
    if (!link_->hung_up()) RAMFERRY_TRY(ask_once());
    RAMFERRY_TRY_ASSIGN(const auto message, link_->next(deadline));
    if (!message) return 0;
    asked_ = false;
    if (message->type != MessageType::stream)
      return lie("it sent '" + std::string(to_string(message->type)) + "' outside of a round");
    pending_ = message->data;
  }
  const std::size_t count = std::min(into.size(), pending_.size());
  std::memcpy(into.data(), pending_.data(), count);
  pending_ = pending_.subspan(count);
  link_->counters().message_bytes_received.add(count);
  return count;
}

Result<> QemuDestination::land(std::vector<Landing*> blocks) {
  if (!targets_.empty()) return fail(errc::wrong_state, "landing RAM blocks a second time");
  if (blocks.empty() || blocks.size() > kMostBlocks)
    return fail(errc::invalid_argument, "landing " + std::to_string(blocks.size()) + " RAM blocks");
  std::uint64_t next = 0;
  for (Landing* landing : blocks) {
    Target target{.landing = landing, .offset = next, .length = landing->size(), .windows = {}};
    if (target.length > kMostBytes - next)
      return fail(errc::invalid_argument, "landing too large RAM blocks");
    next += target.chunks() * kChunkBytes;
    most_windows_ += target.chunks();
    targets_.push_back(std::move(target));
  }
  return {};
}

Result<> QemuDestination::take_round() {
  Result<> served = serve_round();
  if (!served && !std::exchange(failed_, true)) link_->tell_failure();
  return served;
}

Result<> QemuDestination::serve_round() {
  if (targets_.empty() || closed_) return lie("a round that was not agreed on");
  if (!pending_.empty()) return lie("bytes follow the marker of a round");
  for (;;) {
    RAMFERRY_TRY(ask_once());
    RAMFERRY_TRY_ASSIGN(const auto message, link_->next(Deadline::never()));
    if (!message) return fail(FabricErrc::disconnected, "serving the source's RDMA");
    asked_ = false;
    switch (message->type) {
      case MessageType::blocks_request: RAMFERRY_TRY(show_blocks()); break;
      case MessageType::register_request:
        RAMFERRY_TRY(open_windows(*message));
        RAMFERRY_TRY(ask_once());
        get_ready();
        break;
      case MessageType::unregister_request: RAMFERRY_TRY(shut_windows(*message)); break;
      case MessageType::zero: RAMFERRY_TRY(fill(zero_of(*message))); break;
      case MessageType::round_over: return {};
      default: return lie("it sent '" + std::string(to_string(message->type)) + "' in a round");
    }
  }
}

Result<> QemuDestination::check_memory() const {
  std::vector<std::uint64_t> bytes;
  bytes.reserve(targets_.size());
  for (const Target& each : targets_) bytes.push_back(each.length);
  return check_whole_memory(SystemFiles(), link_->domain().device(), bytes,
                            link_->counters().pinned_bytes.get());
}

Result<> QemuDestination::show_blocks() {
  if (std::exchange(shown_, true)) return lie("it asks for the blocks a second time");
  if (pin_all_) RAMFERRY_TRY(check_memory());
  std::vector<Block> blocks;
  for (Target& each : targets_) {
    Block block{.address = kAddresses + each.offset, .offset = each.offset, .length = each.length};
    if (pin_all_ && each.length > 0) {
      populate(each.landing->window(0, each.length));
      RAMFERRY_TRY_ASSIGN(block.key, window(each, 0, each.chunks() - 1));
    }
    blocks.push_back(block);
  }
  return link_->send(MessageType::blocks_result, static_cast<std::uint32_t>(blocks.size()), records(blocks));
}

/// The block, if the range lies in it.
Result<QemuDestination::Target*> QemuDestination::target(std::uint32_t block, std::uint64_t where,
                                                         std::uint64_t length) {
  if (!shown_) return lie("it names blocks before it asked for them");
  if (block >= targets_.size())
    return lie("block " + std::to_string(block) + " of " + std::to_string(targets_.size()));
  Target& target = targets_[block];
  if (where < target.offset || where - target.offset > target.length ||
      length > target.length - (where - target.offset))
    return lie(std::to_string(length) + " bytes at " + std::to_string(where) + " lie outside block " +
               std::to_string(block));
  return &target;
}

Result<> QemuDestination::fill(const Zero& wanted) {
  RAMFERRY_TRY_ASSIGN(Target* const to, target(wanted.block, wanted.where, wanted.length));
  if (wanted.value != 0)
    return fail(errc::unsupported,
                "serving the source's RDMA: filling with the value " + std::to_string(wanted.value));
  link_->counters().zero_bytes_received.add(wanted.length);
  return to->landing->zero(wanted.where - to->offset, wanted.length);
}

Result<> QemuDestination::open_windows(const Message& message) {
  std::vector<RegisterResult> results;
  for (const RegisterRequest& request : requests_of(message)) {
    RAMFERRY_TRY_ASSIGN(const RegisterResult result, open_window(request));
    results.push_back(result);
  }
  return link_->send(MessageType::register_result, static_cast<std::uint32_t>(results.size()),
                     records(results));
}

Result<RegisterResult> QemuDestination::open_window(const RegisterRequest& request) {
  RAMFERRY_TRY_ASSIGN(Target* const to, target(request.block, request.where, 1));
  const std::uint64_t first = (request.where - to->offset) / kChunkBytes;
  // Stock destinations, too, end a run that is too long with the block.
  const std::uint64_t last = first + std::min(request.more_chunks, to->chunks() - 1 - first);
  RegisterResult result{.address = kAddresses + to->offset};
  const auto [begin, end] = to->windows.equal_range(first);
  const auto open = std::find_if(begin, end, [&](const auto& each) { return each.second.last >= last; });
  if (open != end) {
    result.key = open->second.region->remote_key();
    return result;
  }
  const Place place{request.block, first};
  const bool goes_on = place == Place{asked_for_.block, asked_for_.chunk + 1} && first == last;
  in_order_ = goes_on ? in_order_ + 1 : 0;
  asked_for_ = place;
  RAMFERRY_TRY_ASSIGN(result.key, window(*to, first, last));
  return result;
}

/// While the source writes into one chunk the next is registered, if it will probably be asked for: so it
/// need not wait until all its pages have been made and pinned.
void QemuDestination::get_ready() {
  const Place next{asked_for_.block, asked_for_.chunk + 1};
  if (in_order_ < kInOrder || next_ == next || pin_all_) return;
  Target& target = targets_[next.block];
  if (next.chunk >= target.chunks() || target.windows.contains(next.chunk)) return;
  next_.reset();
  next_region_.reset();
  if (auto region = pin(target, next.chunk, next.chunk)) {
    next_ = next;
    next_region_ = std::move(region).value();
  }
}

/// Registers chunks [first, last]; the key.
Result<std::uint32_t> QemuDestination::window(Target& target, std::uint64_t first, std::uint64_t last) {
  if (windows_ >= most_windows_) return lie("it registers more often than there are chunks");
  std::unique_ptr<PinnedRegion> region;
  if (next_ && &targets_[next_->block] == &target && next_->chunk == first && first == last) {
    region = std::move(next_region_);
    next_.reset();
  } else {
    RAMFERRY_TRY_ASSIGN(region, pin(target, first, last));
  }
  const std::uint64_t begin = first * kChunkBytes;
  target.landing->note_written(begin, std::min((last + 1) * kChunkBytes, target.length) - begin);
  const std::uint32_t key = region->remote_key();
  target.windows.emplace(first, Window{last, std::move(region)});
  ++windows_;
  return key;
}

Result<std::unique_ptr<PinnedRegion>> QemuDestination::pin(Target& target, std::uint64_t first,
                                                           std::uint64_t last) {
  const std::uint64_t begin = first * kChunkBytes;
  const std::uint64_t length = std::min((last + 1) * kChunkBytes, target.length) - begin;
  const Bytes memory = target.landing->window(begin, length);
  if (memory.size() != length)
    return fail(errc::unsupported, "serving the source's RDMA: there is no memory to write into");
  return link_->pin(memory, Rights::remote_write, kAddresses + target.offset + begin);
}

/// No stock source asks for it.
Result<> QemuDestination::shut_windows(const Message& message) {
  for (const RegisterRequest& request : requests_of(message)) {
    RAMFERRY_TRY_ASSIGN(Target* const to, target(request.block, request.where, 1));
    windows_ -= to->windows.erase((request.where - to->offset) / kChunkBytes);
  }
  return link_->send(MessageType::unregister_result, 1, {});
}

void QemuDestination::close_windows() noexcept {
  closed_ = true;
  next_.reset();
  next_region_.reset();
  for (Target& each : targets_) each.windows.clear();
}

Result<> QemuDestination::agree(std::span<const std::uint64_t> /*block_bytes*/, std::vector<Range> /*plan*/) {
  return only_receives();
}
Result<Bytes> QemuDestination::stage(const Range& /*wanted*/) {
  return only_receives();
}
Result<> QemuDestination::zero(const Range& /*range*/) {
  return only_receives();
}
Result<> QemuDestination::end_round() {
  return only_receives();
}

}  // namespace ramferry::rdma::qemu
