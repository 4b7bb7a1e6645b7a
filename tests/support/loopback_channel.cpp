// SPDX-License-Identifier: MIT
#include "support/loopback_channel.hpp"

#include "support/memory_set.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

namespace ramferry::test {
namespace {

constexpr std::size_t kMessageChunk = 16 << 10;
constexpr std::size_t kReorderWindow = 16;
constexpr std::uint64_t kHeaderBytes = 16;  // what an operation would cost on a wire

struct Operation {
  enum class Kind { bytes, place, zero, fence, finish };

  Kind kind{};
  SlotId slot{};
  std::uint64_t offset = 0, length = 0;
  Encoding encoding = kRawEncoding;
  ConstBytes borrowed;
  std::vector<std::byte> owned;

  ConstBytes content() const noexcept { return owned.empty() ? borrowed : ConstBytes(owned); }
  bool is_barrier() const noexcept { return kind == Kind::fence || kind == Kind::finish; }
  bool lands() const noexcept { return kind == Kind::place || kind == Kind::zero; }
};

/// From one end to the other. Guarded by Link::mutex, but for `slots`, which belong to the receiving end.
struct Direction {
  std::deque<Operation> queue;
  std::size_t placements_queued = 0;
  std::size_t unreceived_bytes = 0;
  std::deque<std::vector<std::byte>> arrived;
  std::size_t consumed = 0;  ///< of the first in `arrived`
  bool finish_sent = false, finished = false;
  bool applying = false;  ///< the receiving end's thread is using a landing and the sender's memory
  Epoch issued = 0, acknowledged = 0;
  SlotTable slots;
  std::mt19937_64 random;

  void drop() {
    queue.clear();
    placements_queued = 0;
  }
};

/// Guarded by Link::mutex.
struct End {
  bool cancelled = false, gone = false;
  std::optional<Error> failure;
  StreamStats stats;
};

struct Link {
  explicit Link(const LoopbackOptions& made_with) : options(made_with) {
    for (std::size_t i = 0; i < directions.size(); ++i) directions[i].random.seed(options.seed * 2 + i);
  }

  /// Ends all traffic, and tells `end` why.
  void sever(std::size_t end, Error why) {
    if (!ends[end].failure) ends[end].failure = std::move(why);
    for (Direction& each : directions) each.drop();
    changed.notify_all();
  }

  const LoopbackOptions options;
  std::mutex mutex;
  std::condition_variable changed;
  std::array<Direction, 2> directions;  ///< [i] goes from end i to end 1 - i
  std::array<End, 2> ends;
};

Error error_of(errc condition, std::string doing) {
  return {make_error_code(condition), std::move(doing), {}};
}

/// The one copy of the loopback: it stands for the wire. The source may be written meanwhile, as the contract
/// allows.
[[gnu::noinline]] void copy_borrowed(Bytes to, ConstBytes from) noexcept {
  std::memcpy(to.data(), from.data(), from.size());
}

Result<> land(const Operation& operation, const SlotTable& slots) {
  RAMFERRY_TRY_ASSIGN(Landing * landing, slots.find(operation.slot, operation.offset, operation.length));
  if (operation.kind == Operation::Kind::zero) return landing->zero(operation.offset, operation.length);
  const ConstBytes content = operation.content();
  if (operation.encoding == kRawEncoding) {
    const Bytes window = landing->window(operation.offset, operation.length);
    if (!window.empty()) {
      landing->note_written(operation.offset, operation.length);
      copy_borrowed(window, content);
      return {};
    }
  }
  return landing->store(operation.offset, operation.length, operation.encoding, content);
}

/// Between fences any placement may come next; bytes keep their order among themselves.
Operation take_next(Direction& from) {
  const auto barrier = std::find_if(from.queue.begin(), from.queue.end(),
                                    [](const Operation& each) { return each.is_barrier(); });
  const auto choices =
      std::min<std::size_t>(kReorderWindow, static_cast<std::size_t>(barrier - from.queue.begin()));
  auto chosen = from.queue.begin();
  if (choices > 0) chosen += static_cast<std::ptrdiff_t>(from.random() % choices);
  if (chosen->kind == Operation::Kind::bytes)
    chosen = std::find_if(from.queue.begin(), chosen,
                          [](const Operation& each) { return each.kind == Operation::Kind::bytes; });
  Operation next = std::move(*chosen);
  from.queue.erase(chosen);
  return next;
}

class LoopbackChannel final : public Channel {
 public:
  LoopbackChannel(std::shared_ptr<Link> link, std::size_t me)
      : link_(std::move(link)), me_(me), delivery_([this] { deliver(); }) {}
  ~LoopbackChannel() override;

  Result<> send(ConstBytes bytes) override;
  Result<std::size_t> receive(Bytes into, Deadline deadline) override;
  Result<> finish(Deadline deadline) override;
  void cancel() noexcept override;
  StreamStats stats() const noexcept override;
  Facts facts() const override { return {{"transport", "loopback"}}; }

  Result<> expose(SlotId slot, Landing& landing) override;
  Result<> revoke(Deadline deadline) override;
  Result<> lend(std::span<const Placement> plan) override;
  Result<> prepare(ConstBytes range) override;
  Result<> place(std::span<const Placement> batch) override;
  Result<> zero(std::span<const ZeroRun> runs) override;
  Result<Epoch> fence() override;
  Result<> settle(Epoch epoch, Deadline deadline) override;
  Epoch settled() const noexcept override;
  SessionId session() const noexcept override { return link_->options.session; }

 private:
  using Lock = std::unique_lock<std::mutex>;

  End& mine() const noexcept { return link_->ends[me_]; }
  Direction& out() const noexcept { return link_->directions[me_]; }
  Direction& in() const noexcept { return link_->directions[1 - me_]; }

  /// Waits until `ready`; the reason if this end is cancelled or fails before.
  template <class Ready>
  Result<> await(Lock& lock, Deadline deadline, const char* doing, Ready ready) const {
    for (;;) {
      if (mine().cancelled) return fail(errc::cancelled, doing);
      if (ready()) return {};
      if (mine().failure) return Failure(*mine().failure);
      if (deadline.passed()) return fail(errc::timed_out, doing);
      if (deadline.is_never())
        link_->changed.wait(lock);
      else
        link_->changed.wait_until(lock, deadline.when());
    }
  }
  Result<> await_space(Lock& lock, const char* doing, const std::size_t& used, std::size_t bound) const {
    return await(lock, Deadline::never(), doing, [&] { return !mine().failure && used < bound; });
  }
  Result<> usable(Lock& lock, const char* doing) const {
    return await(lock, Deadline::never(), doing, [this] { return !mine().failure; });
  }

  Result<> enqueue_landing(Operation operation, const char* doing);
  void deliver();
  void complete(Operation& done, Result<> outcome);

  const std::shared_ptr<Link> link_;
  const std::size_t me_;
  MemorySet lent_, prepared_;  ///< the sending thread's
  std::thread delivery_;       ///< takes in what the other end sent
};

LoopbackChannel::~LoopbackChannel() {
  {
    Lock lock(link_->mutex);
    mine().gone = true;
    link_->sever(1 - me_, error_of(errc::peer_gone, "the other end of the loopback was destroyed"));
    link_->changed.wait(lock, [this] { return !out().applying; });
  }
  delivery_.join();
}

Result<> LoopbackChannel::send(ConstBytes bytes) {
  Lock lock(link_->mutex);
  RAMFERRY_TRY(usable(lock, "sending"));
  if (out().finish_sent) return fail(errc::wrong_state, "sending: finish was called before");
  while (!bytes.empty()) {
    RAMFERRY_TRY(await_space(lock, "sending", out().unreceived_bytes, link_->options.buffer_bytes));
    const ConstBytes chunk = bytes.first(std::min(kMessageChunk, bytes.size()));
    bytes = bytes.subspan(chunk.size());
    Operation operation{.kind = Operation::Kind::bytes};
    operation.owned.assign(chunk.begin(), chunk.end());
    out().queue.push_back(std::move(operation));
    out().unreceived_bytes += chunk.size();
    mine().stats.message_bytes_sent += chunk.size();
    mine().stats.wire_bytes_sent += chunk.size() + kHeaderBytes;
    link_->changed.notify_all();
  }
  return {};
}

Result<std::size_t> LoopbackChannel::receive(Bytes into, Deadline deadline) {
  Lock lock(link_->mutex);
  RAMFERRY_TRY(await(lock, deadline, "receiving", [this] { return !in().arrived.empty() || in().finished; }));
  std::size_t got = 0;
  while (got < into.size() && !in().arrived.empty()) {
    const ConstBytes chunk = ConstBytes(in().arrived.front()).subspan(in().consumed);
    const std::size_t count = std::min(chunk.size(), into.size() - got);
    std::memcpy(into.data() + got, chunk.data(), count);
    got += count;
    in().consumed += count;
    if (count < chunk.size()) break;
    in().arrived.pop_front();
    in().consumed = 0;
  }
  in().unreceived_bytes -= got;
  mine().stats.message_bytes_received += got;
  link_->changed.notify_all();
  return got;
}

Result<> LoopbackChannel::finish(Deadline deadline) {
  Lock lock(link_->mutex);
  RAMFERRY_TRY(usable(lock, "finishing"));
  if (!out().finish_sent) out().queue.push_back({.kind = Operation::Kind::finish});
  out().finish_sent = true;
  link_->changed.notify_all();
  return await(lock, deadline, "finishing", [this] { return out().finished; });
}

void LoopbackChannel::cancel() noexcept {
  const Lock lock(link_->mutex);
  mine().cancelled = true;
  link_->sever(1 - me_, error_of(errc::peer_gone, "the other end of the loopback was cancelled"));
}

StreamStats LoopbackChannel::stats() const noexcept {
  const Lock lock(link_->mutex);
  return mine().stats;
}

Result<> LoopbackChannel::expose(SlotId slot, Landing& landing) {
  Lock lock(link_->mutex);
  RAMFERRY_TRY(usable(lock, "exposing a slot"));
  return in().slots.add(slot, landing);
}

Result<> LoopbackChannel::revoke(Deadline deadline) {
  Lock lock(link_->mutex);
  in().slots.revoke();
  while (in().applying) {
    if (deadline.passed()) return fail(errc::timed_out, "revoking: a landing is still taking in a placement");
    if (deadline.is_never())
      link_->changed.wait(lock);
    else
      link_->changed.wait_until(lock, deadline.when());
  }
  return {};
}

Result<> LoopbackChannel::lend(std::span<const Placement> plan) {
  Lock lock(link_->mutex);
  RAMFERRY_TRY(usable(lock, "lending memory"));
  for (const Placement& each : plan) lent_.add(each.bytes);
  return {};
}

Result<> LoopbackChannel::prepare(ConstBytes range) {
  if (!lent_.contains(range)) return fail(errc::invalid_argument, "preparing memory that was not lent");
  Lock lock(link_->mutex);
  RAMFERRY_TRY(usable(lock, "preparing memory"));
  prepared_.add(range);
  mine().stats.pinned_bytes += range.size();
  mine().stats.peak_pinned_bytes = mine().stats.pinned_bytes;
  return {};
}

Result<> LoopbackChannel::enqueue_landing(Operation operation, const char* doing) {
  Lock lock(link_->mutex);
  RAMFERRY_TRY(await_space(lock, doing, out().placements_queued, link_->options.queue_depth));
  StreamStats& stats = mine().stats;
  const bool is_placement = operation.kind == Operation::Kind::place;
  (is_placement ? stats.placed_bytes_sent : stats.zero_bytes_sent) += operation.length;
  stats.wire_bytes_sent += kHeaderBytes + operation.content().size();
  stats.copied_bytes += is_placement ? operation.owned.size() : 0;
  out().queue.push_back(std::move(operation));
  ++out().placements_queued;
  link_->changed.notify_all();
  return {};
}

Result<> LoopbackChannel::place(std::span<const Placement> batch) {
  for (const Placement& each : batch) {
    Operation operation{.kind = Operation::Kind::place,
                        .slot = each.slot,
                        .offset = each.offset,
                        .length = each.length,
                        .encoding = each.encoding,
                        .borrowed = each.bytes};
    if (each.encoding == kRawEncoding && each.length != each.bytes.size())
      return fail(errc::invalid_argument, "placing raw bytes under another length");
    if (each.encoding != kRawEncoding && each.bytes.size() > kMostEncodedBytes)
      return fail(errc::invalid_argument, "placing too many encoded bytes");
    if (each.length == 0) continue;
    if (each.encoding != kRawEncoding || !prepared_.contains(each.bytes))
      operation.owned.assign(each.bytes.begin(), each.bytes.end());
    RAMFERRY_TRY(enqueue_landing(std::move(operation), "placing"));
  }
  Lock lock(link_->mutex);
  return usable(lock, "placing");
}

Result<> LoopbackChannel::zero(std::span<const ZeroRun> runs) {
  for (const ZeroRun& each : runs)
    if (each.length > 0)
      RAMFERRY_TRY(enqueue_landing(
          {.kind = Operation::Kind::zero, .slot = each.slot, .offset = each.offset, .length = each.length},
          "zeroing"));
  Lock lock(link_->mutex);
  return usable(lock, "zeroing");
}

Result<Epoch> LoopbackChannel::fence() {
  Lock lock(link_->mutex);
  RAMFERRY_TRY(usable(lock, "fencing"));
  out().queue.push_back({.kind = Operation::Kind::fence});
  mine().stats.wire_bytes_sent += kHeaderBytes;
  ++mine().stats.fences;
  link_->changed.notify_all();
  return ++out().issued;
}

Result<> LoopbackChannel::settle(Epoch epoch, Deadline deadline) {
  Lock lock(link_->mutex);
  return await(lock, deadline, "waiting for the acknowledgement of a fence",
               [this, epoch] { return out().acknowledged >= epoch; });
}

Epoch LoopbackChannel::settled() const noexcept {
  const Lock lock(link_->mutex);
  return out().acknowledged;
}

void LoopbackChannel::deliver() {
  Lock lock(link_->mutex);
  for (;;) {
    link_->changed.wait(lock, [this] { return mine().gone || !in().queue.empty(); });
    if (mine().gone) return;
    Operation next = take_next(in());
    Result<> outcome;
    if (next.lands()) {
      --in().placements_queued;
      in().applying = true;
      lock.unlock();
      outcome = land(next, in().slots);
      lock.lock();
      in().applying = false;
    }
    complete(next, std::move(outcome));
    link_->changed.notify_all();
  }
}

void LoopbackChannel::complete(Operation& done, Result<> outcome) {
  StreamStats& stats = mine().stats;
  if (!outcome) {
    link_->sever(1 - me_, error_of(errc::peer_failed,
                                   "the other end refused a placement: " + outcome.error().message()));
    link_->sever(me_, std::move(outcome).error());
    return;
  }
  stats.wire_bytes_received += kHeaderBytes + done.content().size();
  switch (done.kind) {
    case Operation::Kind::bytes: in().arrived.push_back(std::move(done.owned)); break;
    case Operation::Kind::place: stats.placed_bytes_received += done.length; break;
    case Operation::Kind::zero: stats.zero_bytes_received += done.length; break;
    case Operation::Kind::fence: ++in().acknowledged; break;
    case Operation::Kind::finish: in().finished = true; break;
  }
}

}  // namespace

ChannelPair make_loopback_pair(const LoopbackOptions& options) {
  const auto link = std::make_shared<Link>(options);
  return {std::make_unique<LoopbackChannel>(link, 0), std::make_unique<LoopbackChannel>(link, 1)};
}

}  // namespace ramferry::test
